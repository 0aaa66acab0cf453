//! Fuzzes an encoded record.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_contract::fuzz_entry::record(bytes));
