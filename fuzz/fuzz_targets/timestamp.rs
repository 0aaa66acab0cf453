//! Fuzzes a timestamp.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_contract::fuzz_entry::timestamp(bytes));
