//! Fuzzes a rule file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_rules::fuzz_entry::rules(bytes));
