//! The binding to Vectorscan, and requests to processor and system: the only unsafe code of the product.
//!
//! Four promises hold the binding together:
//! * an [`Engine`] is a database that is never changed after it was made, so threads may share it;
//! * a scratch space never leaves the [`Session`] it was made for, so it always fits its engine
//!   and is used by one thread at a time (`&mut self`);
//! * the callback from C checks bounds, pushes into memory reserved before, and returns: it cannot
//!   panic and never allocates;
//! * every pointer from C has exactly one owner, whose `Drop` gives it back.
//!
//! Beside it lie [`region`] and [`block`], tables of ours that are read where they lie in a mapped
//! file, [`prefetch()`], [`sets`], and [`program`].

mod accel;
mod block;
mod prefetch;
mod program;
mod region;
mod sets;

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use vectorscan_rs_sys as hs;

pub(crate) use block::Block;
pub(crate) use prefetch::prefetch;
pub use program::give_back_program_pages;
pub(crate) use region::{Filling, Packer, Region, Unpacker};
pub(crate) use sets::{BLOCK_BYTES, ByteSet, bits};

/// The pattern's first match is enough: we ask which patterns occur, not how often.
pub(crate) const SINGLE_MATCH: u32 = hs::HS_FLAG_SINGLEMATCH;

/// The engine may report more than the pattern means; a confirm decides.
pub(crate) const PREFILTER: u32 = hs::HS_FLAG_PREFILTER;

const SUCCESS: c_int = 0;

/// Why the engine could not do its work. Never caused by content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No memory for the database or its scratch space.
    #[error("out of memory for the pattern engine")]
    OutOfMemory,
    /// The CPU lacks what the engine was built for.
    #[error(
        "this CPU lacks the instructions the pattern engine needs (SSE4.2; AVX2 or AVX-512 if it \
         was built with `simd_specialization`)"
    )]
    CpuUnsupported,
    /// Serialised bytes of another version, platform or damaged.
    #[error("the serialised database does not fit this engine (code {0})")]
    Incompatible(i32),
    /// Anything else the library answers.
    #[error("the pattern engine answered with code {0}")]
    Other(i32),
}

impl EngineError {
    fn from_code(code: c_int) -> Self {
        match code {
            hs::HS_NOMEM | hs::HS_BAD_ALLOC => Self::OutOfMemory,
            hs::HS_ARCH_ERROR => Self::CpuUnsupported,
            hs::HS_DB_VERSION_ERROR | hs::HS_DB_PLATFORM_ERROR | hs::HS_DB_MODE_ERROR => {
                Self::Incompatible(code)
            }
            other => Self::Other(other),
        }
    }
}

fn check(code: c_int) -> Result<(), EngineError> {
    if code == SUCCESS {
        Ok(())
    } else {
        Err(EngineError::from_code(code))
    }
}

/// Version of the library the serialised form depends on.
pub(crate) fn version() -> String {
    // SAFETY: takes nothing, returns a pointer to a static, NUL-terminated string.
    let text = unsafe { CStr::from_ptr(hs::hs_version()) };
    text.to_string_lossy().into_owned()
}

/// What the library sees of this CPU: databases are compiled for it.
pub(crate) fn platform() -> Result<[u64; 3], EngineError> {
    let mut info = hs::hs_platform_info_t {
        tune: 0,
        cpu_features: 0,
        reserved1: 0,
        reserved2: 0,
    };
    // SAFETY: writes into the struct, which lives across the call.
    check(unsafe { hs::hs_populate_platform(&mut info) })?;
    Ok([u64::from(info.tune), info.cpu_features, info.reserved1])
}

/// One expression for [`Engine::compile`].
pub(crate) struct Source {
    pub(crate) expression: CString,
    pub(crate) flags: u32,
    /// Reported in [`RawMatch::pattern`].
    pub(crate) id: u32,
}

/// An expression the engine did not take, or a database it could not build.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Index among the sources, if one of them is to blame.
    pub(crate) index: Option<usize>,
    pub(crate) message: String,
}

/// A compiled block-mode database.
pub(crate) struct Engine {
    database: NonNull<hs::hs_database_t>,
}

// SAFETY: the library only reads a database after it is made; `Engine` hands out no way to change
// it, and it is freed once, by whichever thread drops the last `Arc`.
unsafe impl Send for Engine {}
// SAFETY: as above; concurrent scans each bring their own scratch.
unsafe impl Sync for Engine {}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: we own the pointer, it came from the library and is not used afterwards.
        unsafe { hs::hs_free_database(self.database.as_ptr()) };
    }
}

impl Engine {
    /// Compiles all sources into one database for this CPU.
    pub(crate) fn compile(sources: &[Source]) -> Result<Self, Refused> {
        accel::keep();
        let whole = |message: String| Refused {
            index: None,
            message,
        };
        // SAFETY: takes nothing.
        check(unsafe { hs::hs_valid_platform() }).map_err(|error| whole(error.to_string()))?;
        let count =
            c_uint::try_from(sources.len()).map_err(|_| whole("too many patterns".to_owned()))?;
        let expressions: Vec<*const c_char> = sources
            .iter()
            .map(|source| source.expression.as_ptr())
            .collect();
        let flags: Vec<c_uint> = sources.iter().map(|source| source.flags).collect();
        let ids: Vec<c_uint> = sources.iter().map(|source| source.id).collect();
        let mut database = ptr::null_mut();
        let mut error: *mut hs::hs_compile_error_t = ptr::null_mut();
        // SAFETY: the three arrays have `count` entries and, like the strings behind them, live
        // across the call; both out-pointers point to initialised locals.
        let code = unsafe {
            hs::hs_compile_multi(
                expressions.as_ptr(),
                flags.as_ptr(),
                ids.as_ptr(),
                count,
                hs::HS_MODE_BLOCK,
                ptr::null(),
                &mut database,
                &mut error,
            )
        };
        if code == SUCCESS {
            return NonNull::new(database)
                .map(|database| Self { database })
                .ok_or_else(|| whole("the pattern engine returned no database".to_owned()));
        }
        let mut refused = whole(format!("the pattern engine answered with code {code}"));
        if let Some(error) = NonNull::new(error) {
            // SAFETY: on failure the library fills a valid error with a NUL-terminated message;
            // we copy both fields before we free it, once.
            unsafe {
                let fields = error.as_ref();
                if !fields.message.is_null() {
                    refused.message = CStr::from_ptr(fields.message)
                        .to_string_lossy()
                        .into_owned();
                }
                refused.index = usize::try_from(fields.expression).ok();
                hs::hs_free_compile_error(error.as_ptr());
            }
        }
        Err(refused)
    }

    /// Bytes for [`Engine::deserialize`] on a machine with the same library and CPU.
    pub(crate) fn serialize(&self) -> Result<Vec<u8>, EngineError> {
        let mut bytes: *mut c_char = ptr::null_mut();
        let mut length = 0_usize;
        // SAFETY: the database is valid while `self` lives; both out-pointers are locals.
        check(unsafe {
            hs::hs_serialize_database(self.database.as_ptr(), &mut bytes, &mut length)
        })?;
        // SAFETY: the library returned `length` readable bytes, which we copy before freeing them
        // with the allocator it used (`malloc`, as we never set another one).
        unsafe {
            let copy = std::slice::from_raw_parts(bytes.cast::<u8>(), length).to_vec();
            free(bytes.cast());
            Ok(copy)
        }
    }

    /// Reads bytes of [`Engine::serialize`]. The caller has checked where they come from: the
    /// library verifies version, platform and a CRC, but is no validator of hostile bytes.
    pub(crate) fn deserialize(bytes: &[u8]) -> Result<Self, EngineError> {
        accel::keep();
        let mut database = ptr::null_mut();
        // SAFETY: pointer and length are of one slice; the out-pointer is a local.
        check(unsafe {
            hs::hs_deserialize_database(bytes.as_ptr().cast(), bytes.len(), &mut database)
        })?;
        NonNull::new(database)
            .map(|database| Self { database })
            .ok_or(EngineError::Other(0))
    }

    /// Memory the database takes.
    pub(crate) fn size_bytes(&self) -> usize {
        let mut size = 0;
        // SAFETY: the database is valid while `self` lives; the out-pointer is a local.
        let code = unsafe { hs::hs_database_size(self.database.as_ptr(), &mut size) };
        if code == SUCCESS { size } else { 0 }
    }
}

unsafe extern "C" {
    fn free(pointer: *mut c_void);
}

/// What the engine reports: this pattern matches, and its first match to end ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawMatch {
    pub(crate) pattern: u32,
    pub(crate) end: u64,
}

/// An engine and the scratch space made for it. One per scanner.
pub(crate) struct Session {
    engine: Arc<Engine>,
    scratch: NonNull<hs::hs_scratch_t>,
}

// SAFETY: scratch space has no tie to the thread that made it; `&mut self` in `scan` keeps it to
// one thread at a time. `Session` is not `Sync`-relevant: every use needs `&mut`.
unsafe impl Send for Session {}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: we own the scratch, no scan is running (`&mut self`), it is not used afterwards.
        unsafe { hs::hs_free_scratch(self.scratch.as_ptr()) };
    }
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Self, EngineError> {
        let mut scratch = ptr::null_mut();
        // SAFETY: the database is valid while `engine` lives; a null in-pointer asks for new
        // scratch; the out-pointer is a local.
        check(unsafe { hs::hs_alloc_scratch(engine.database.as_ptr(), &mut scratch) })?;
        let scratch = NonNull::new(scratch).ok_or(EngineError::OutOfMemory)?;
        Ok(Self { engine, scratch })
    }

    /// Appends every pattern found in `bytes` to `hits`, each once, whose capacity the caller has
    /// reserved for all patterns of the engine.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        hits: &mut Vec<RawMatch>,
    ) -> Result<(), EngineError> {
        let length =
            c_uint::try_from(bytes.len()).map_err(|_| EngineError::Other(hs::HS_INVALID))?;
        // SAFETY: engine and scratch belong together (see `new`); pointer and length are of one
        // slice; `on_match` gets back the vector, which nothing else touches during the call.
        let code = unsafe {
            hs::hs_scan(
                self.engine.database.as_ptr(),
                bytes.as_ptr().cast(),
                length,
                0,
                self.scratch.as_ptr(),
                Some(on_match),
                ptr::from_mut(hits).cast(),
            )
        };
        check(code)
    }

    /// Memory the scratch space takes.
    pub(crate) fn scratch_bytes(&self) -> usize {
        let mut size = 0;
        // SAFETY: the scratch is ours and valid; the out-pointer is a local.
        let code = unsafe { hs::hs_scratch_size(self.scratch.as_ptr(), &mut size) };
        if code == SUCCESS { size } else { 0 }
    }
}

/// Called by the library for each raw match. Returning non-zero ends the scan with an error.
unsafe extern "C" fn on_match(
    id: c_uint,
    _from: c_ulonglong,
    to: c_ulonglong,
    _flags: c_uint,
    context: *mut c_void,
) -> c_int {
    // SAFETY: `context` is the `&mut Vec` that `scan` passed, exclusively ours until it returns.
    let hits = unsafe { &mut *context.cast::<Vec<RawMatch>>() };
    if hits.len() == hits.capacity() {
        return 1;
    }
    hits.push(RawMatch {
        pattern: id,
        end: to,
    });
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(expression: &str, id: u32) -> Source {
        Source {
            expression: CString::new(expression).unwrap(),
            flags: SINGLE_MATCH,
            id,
        }
    }

    #[test]
    fn reports_each_pattern_once_with_its_first_end() {
        let engine = Arc::new(Engine::compile(&[source("abc", 7), source("c+d", 9)]).unwrap());
        let mut session = Session::new(Arc::clone(&engine)).unwrap();
        let mut hits = Vec::with_capacity(2);
        session.scan(b"xabc abc ccd \xff\x00", &mut hits).unwrap();
        hits.sort_by_key(|hit| hit.pattern);
        assert_eq!(
            hits,
            [
                RawMatch { pattern: 7, end: 4 },
                RawMatch {
                    pattern: 9,
                    end: 12
                }
            ]
        );
        assert!(session.scratch_bytes() > 0 && engine.size_bytes() > 0);
    }

    #[test]
    fn names_the_expression_it_refuses() {
        let refused = Engine::compile(&[source("abc", 0), source("a(?=b)", 1)])
            .err()
            .unwrap();
        assert_eq!(refused.index, Some(1));
        assert!(!refused.message.is_empty());
    }

    #[test]
    fn a_full_list_ends_the_scan_with_an_error() {
        let engine = Arc::new(Engine::compile(&[source("a", 0), source("b", 1)]).unwrap());
        let mut session = Session::new(engine).unwrap();
        let mut hits = Vec::new();
        assert!(session.scan(b"ab", &mut hits).is_err());
    }

    /// See [`accel`]: the library's own search wrote the content over its stack.
    #[test]
    fn a_search_from_the_end_survives_long_content() {
        let engine = Engine::compile(&[source(r"(?:\\x[0-9a-f]{2}){200}", 0)]).unwrap();
        let mut session = Session::new(Arc::new(engine)).unwrap();
        let mut hits = Vec::with_capacity(1);
        for len in [300, 5_000, 100_000] {
            session
                .scan(
                    "some text without a zero byte ".repeat(len / 30).as_bytes(),
                    &mut hits,
                )
                .unwrap();
            assert!(hits.is_empty());
        }
        session
            .scan(r"\x41".repeat(200).as_bytes(), &mut hits)
            .unwrap();
        assert_eq!(hits.len(), 1);
    }

    #[test]
    fn serialised_bytes_come_back_as_the_same_database() {
        let engine = Engine::compile(&[source("abc", 3)]).unwrap();
        let bytes = engine.serialize().unwrap();
        let again = Arc::new(Engine::deserialize(&bytes).unwrap());
        let mut hits = Vec::with_capacity(1);
        Session::new(again)
            .unwrap()
            .scan(b"abc", &mut hits)
            .unwrap();
        assert_eq!(hits, [RawMatch { pattern: 3, end: 3 }]);
        assert!(Engine::deserialize(&bytes[..bytes.len() / 2]).is_err());
        assert!(Engine::deserialize(b"").is_err());
    }
}
