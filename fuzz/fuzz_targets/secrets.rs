//! Fuzzes the store of known secrets, and looking for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_scanner::fuzz_entry::secrets(bytes));
