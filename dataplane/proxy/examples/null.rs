//! The null server alone: `cargo run --release -p oktsec-proxy --example null -- 127.0.0.1:9000 1`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args
        .next()
        .unwrap_or_else(|| String::from("127.0.0.1:9000"))
        .parse()?;
    let cores = args.next().unwrap_or_else(|| String::from("1")).parse()?;
    oktsec_proxy::null::run(address, cores)?;
    Ok(())
}
