//! `oktsec-load`: the load generator by itself.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints what it found"
)]

use clap::Parser as _;
use oktsec_benches::load::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(dir) = &options.prepare {
        return match options.prepare(dir) {
            Ok(site) => {
                println!(
                    "written {} and keys in {}",
                    site.config.display(),
                    site.keys.display()
                );
                println!("start it:  oktsec serve --config {}", site.config.display());
                println!(
                    "load it:   oktsec-load --address {} --keys {}",
                    options.address,
                    site.keys.display()
                );
                ExitCode::SUCCESS
            }
            Err(cause) => {
                eprintln!("oktsec-load: {cause}");
                ExitCode::from(2)
            }
        };
    }
    match options.execute() {
        Ok(report) => {
            if options.json {
                println!("{}", report.to_json());
            } else {
                println!("{report}");
            }
            if report.is_right() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(cause) => {
            eprintln!("oktsec-load: {cause}");
            ExitCode::from(2)
        }
    }
}
