//! Fuzzes event streams.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_pipeline::fuzz_entry::client_hello(bytes));
