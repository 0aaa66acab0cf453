//! Fuzzes a configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_contract::fuzz_entry::config(bytes));
