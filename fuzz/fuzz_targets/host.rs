//! Fuzzes a host and a host pattern.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_contract::fuzz_entry::host(bytes));
