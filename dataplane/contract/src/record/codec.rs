//! The canonical bytes of a record: written in one order, read back strictly.

use super::{EgressRef, FindingRef, RecordRef, SignatureState};
use crate::clock::Timestamp;
use crate::id::MessageId;
use crate::limits::{FINDINGS_MAX, RECORD_BYTES_MAX};
use crate::reason::Reason;
use crate::verdict::{Mode, Status, Verdict};
use crate::{Severity, Surface};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A record without [`EgressRef`], and one with it.
const FORMAT: u8 = 3;
const FORMAT_EGRESS: u8 = 4;

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the record ends inside a field")]
    Truncated,
    /// They go on behind the last field.
    #[error("bytes behind the last field")]
    Trailing,
    /// Written by another format.
    #[error("record format {0} is not known")]
    Format(u8),
    /// A code that no variant has.
    #[error("unknown code {code} for {field}")]
    Code {
        /// The field.
        field: &'static str,
        /// What stood there.
        code: u8,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// More findings or bytes than a record may have.
    #[error("the record is larger than allowed")]
    TooLarge,
}

pub(super) fn encode(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    debug_assert!(
        record.findings.len() <= FINDINGS_MAX,
        "decide() bounds the findings"
    );
    out.push(match record.egress {
        None => FORMAT,
        Some(_) => FORMAT_EGRESS,
    });
    out.extend_from_slice(&record.id.0);
    out.extend_from_slice(&record.received_at.0.to_le_bytes());
    out.extend_from_slice(&[
        surface_code(record.surface),
        record.status.code(),
        record.reason.code(),
        record.verdict.code(),
        mode_code(record.mode),
        signature_code(record.signature),
    ]);
    out.extend_from_slice(&record.latency_us.to_le_bytes());
    out.extend_from_slice(&record.revision.to_le_bytes());
    out.extend_from_slice(&record.content_bytes.to_le_bytes());
    out.extend_from_slice(&record.content_hash);
    put_optional(out, record.fingerprint.as_ref().map(<[u8; 32]>::as_slice));
    put_optional(
        out,
        record.signature_bytes.as_ref().map(<[u8; 64]>::as_slice),
    );
    put_optional(out, record.about.as_ref().map(|id| id.0.as_slice()));
    put_address(out, record.peer);
    for text in [
        record.from,
        record.to,
        record.timestamp,
        record.intent,
        record.session,
        record.tool,
        record.auth_method,
        record.detail,
    ] {
        put_str(out, text);
    }
    let count = u16::try_from(record.findings.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for finding in record.findings {
        put_str(out, finding.rule_id);
        put_str(out, finding.name);
        put_str(out, finding.category);
        put_str(out, finding.excerpt);
        out.extend_from_slice(&[severity_code(finding.severity), finding.view]);
        out.extend_from_slice(&finding.start.to_le_bytes());
        out.extend_from_slice(&finding.end.to_le_bytes());
    }
    if let Some(egress) = &record.egress {
        egress.encode(out);
    }
}

pub(super) fn decode<'a>(
    bytes: &'a [u8],
    findings: &'a mut Vec<FindingRef<'a>>,
) -> Result<RecordRef<'a>, DecodeError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    let mut r = Reader { bytes };
    let format = r.u8()?;
    if !matches!(format, FORMAT | FORMAT_EGRESS) {
        return Err(DecodeError::Format(format));
    }
    let id = MessageId(r.array()?);
    let received_at = Timestamp(r.u64()?);
    let surface = r.coded("surface", |c| Surface::ALL.get(usize::from(c)).copied())?;
    let status = r.coded("status", Status::from_code)?;
    let reason = r.coded("reason", Reason::from_code)?;
    let verdict = r.coded("verdict", Verdict::from_code)?;
    let mode = r.coded("mode", |c| match c {
        0 => Some(Mode::Observe),
        1 => Some(Mode::Enforce),
        _ => None,
    })?;
    let signature = r.coded("signature", |c| match c {
        0 => Some(SignatureState::Invalid),
        1 => Some(SignatureState::Absent),
        2 => Some(SignatureState::Verified),
        _ => None,
    })?;
    let latency_us = r.u32()?;
    let revision = r.u64()?;
    let content_bytes = r.u32()?;
    let content_hash = r.array()?;
    let fingerprint = r.optional("fingerprint")?;
    let signature_bytes = r.optional("signature")?;
    let about = r.optional("about")?.map(MessageId);
    let peer = r.address("peer")?;
    let from = r.str()?;
    let to = r.str()?;
    let timestamp = r.str()?;
    let intent = r.str()?;
    let session = r.str()?;
    let tool = r.str()?;
    let auth_method = r.str()?;
    let detail = r.str()?;
    let count = usize::from(u16::from_le_bytes(r.array()?));
    if count > FINDINGS_MAX {
        return Err(DecodeError::TooLarge);
    }
    findings.clear();
    for _ in 0..count {
        let rule_id = r.str()?;
        let name = r.str()?;
        let category = r.str()?;
        let excerpt = r.str()?;
        let severity = r.coded("severity", severity_from)?;
        let view = r.u8()?;
        let (start, end) = (r.u32()?, r.u32()?);
        findings.push(FindingRef {
            rule_id,
            name,
            category,
            excerpt,
            severity,
            view,
            start,
            end,
        });
    }
    let egress = match format {
        FORMAT_EGRESS => Some(EgressRef::decode(&mut r)?),
        _ => None,
    };
    if !r.bytes.is_empty() {
        return Err(DecodeError::Trailing);
    }
    Ok(RecordRef {
        id,
        received_at,
        surface,
        status,
        reason,
        verdict,
        mode,
        signature,
        latency_us,
        revision,
        content_bytes,
        content_hash,
        fingerprint,
        signature_bytes,
        about,
        peer,
        from,
        to,
        timestamp,
        intent,
        session,
        tool,
        auth_method,
        detail,
        findings,
        egress,
    })
}

const fn surface_code(surface: Surface) -> u8 {
    match surface {
        Surface::Message => 0,
        Surface::Egress => 1,
        Surface::Gateway => 2,
        Surface::Stdio => 3,
        Surface::Hook => 4,
    }
}

const fn mode_code(mode: Mode) -> u8 {
    match mode {
        Mode::Observe => 0,
        Mode::Enforce => 1,
    }
}

const fn signature_code(signature: SignatureState) -> u8 {
    match signature {
        SignatureState::Invalid => 0,
        SignatureState::Absent => 1,
        SignatureState::Verified => 2,
    }
}

const fn severity_code(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Low => 1,
        Severity::Medium => 2,
        Severity::High => 3,
        Severity::Critical => 4,
    }
}

const fn severity_from(code: u8) -> Option<Severity> {
    match code {
        0 => Some(Severity::Info),
        1 => Some(Severity::Low),
        2 => Some(Severity::Medium),
        3 => Some(Severity::High),
        4 => Some(Severity::Critical),
        _ => None,
    }
}

pub(super) fn put_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => out.push(0),
        Some(IpAddr::V4(ip)) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
}

pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("limits keep every string below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// What is left to read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .bytes
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn str(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::try_from(self.u32()?).map_err(|_| DecodeError::TooLarge)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Utf8)
    }

    pub(super) fn address(&mut self, field: &'static str) -> Result<Option<IpAddr>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            4 => Ok(Some(IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)))),
            6 => Ok(Some(IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)))),
            code => Err(DecodeError::Code { field, code }),
        }
    }

    fn optional<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<[u8; N]>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.array().map(Some),
            code => Err(DecodeError::Code { field, code }),
        }
    }

    fn coded<T>(
        &mut self,
        field: &'static str,
        read: impl Fn(u8) -> Option<T>,
    ) -> Result<T, DecodeError> {
        let code = self.u8()?;
        read(code).ok_or(DecodeError::Code { field, code })
    }
}
