//! Fuzzes content, in every view.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_scanner::fuzz_entry::views(bytes));
