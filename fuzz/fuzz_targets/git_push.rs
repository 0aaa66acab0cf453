//! Fuzzes lines and packs of `git push`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_pipeline::fuzz_entry::git_push(bytes));
