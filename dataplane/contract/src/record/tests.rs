#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
use super::*;
use proptest::prelude::*;

fn sample<'a>(findings: &'a [FindingRef<'a>]) -> RecordRef<'a> {
    RecordRef {
        verdict: Verdict::Block,
        fingerprint: Some([7; 32]),
        signature_bytes: Some([9; 64]),
        about: Some(MessageId([1; 16])),
        peer: Some("2001:db8::1".parse().unwrap()),
        from: "research-agent",
        to: "analysis-agent",
        timestamp: "2026-02-22T10:00:00Z",
        detail: "línea ✓",
        findings,
        ..RecordRef::empty(MessageId([2; 16]), Timestamp(5), Reason::ContentBlocked)
    }
}

const FINDING: FindingRef<'static> = FindingRef {
    rule_id: "IAP-001",
    name: "Relay injection",
    category: "inter-agent",
    excerpt: "ignore previous",
    severity: Severity::Critical,
    view: 1,
    start: 3,
    end: 18,
};

#[test]
fn a_record_reads_back_as_it_was_written() {
    let list = [FINDING, FINDING];
    let record = sample(&list);
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let mut findings = Vec::new();
    assert_eq!(RecordRef::decode(&bytes, &mut findings).unwrap(), record);
}

#[test]
fn every_cut_and_every_extra_byte_is_refused() {
    let list = [FINDING];
    let mut bytes = Vec::new();
    sample(&list).encode(&mut bytes);
    for cut in 0..bytes.len() {
        let mut findings = Vec::new();
        assert!(
            RecordRef::decode(&bytes[..cut], &mut findings).is_err(),
            "cut at {cut}"
        );
    }
    bytes.push(0);
    let mut findings = Vec::new();
    assert_eq!(
        RecordRef::decode(&bytes, &mut findings),
        Err(DecodeError::Trailing)
    );
}

proptest! {
    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(
        at in 0usize..300, value: u8, second in 0usize..300, other: u8,
    ) {
        let list = [FINDING];
        let mut bytes = Vec::new();
        sample(&list).encode(&mut bytes);
        let n = bytes.len();
        bytes[at % n] = value;
        bytes[second % n] = other;
        let mut findings = Vec::new();
        if let Ok(record) = RecordRef::decode(&bytes, &mut findings) {
            let mut again = Vec::new();
            record.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut findings = Vec::new();
        let _ = RecordRef::decode(&bytes, &mut findings);
    }
}
