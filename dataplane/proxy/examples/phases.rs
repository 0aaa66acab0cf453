//! Temporary: where a start spends its time.
use oktsec_contract::config;
use oktsec_contract::paths::StatePaths;
use oktsec_contract::snapshot::Snapshot;
use oktsec_pipeline::{Pipeline, Policy, Shared};
use oktsec_scanner::Database;
use std::sync::Arc;
use std::time::Instant;
fn rss() -> String {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon"))
        .collect::<Vec<_>>()
        .join(" ")
}
fn main() {
    let path = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let t = Instant::now();
    let config = config::load(&path).unwrap().config;
    eprintln!("config {:?} {}", t.elapsed(), rss());
    let paths = StatePaths::for_config(&config);
    let t = Instant::now();
    let snapshot = Arc::new(Snapshot::load(&paths.snapshot).unwrap());
    eprintln!("snapshot {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    let (db, out) = Database::load_or_compile(&snapshot.rules, &paths.rules_cache).unwrap();
    eprintln!(
        "database {:?} {out:?} {} engine {} bytes",
        t.elapsed(),
        rss(),
        db.size_bytes()
    );
    let t = Instant::now();
    let policy = Arc::new(Policy::build(snapshot.clone(), Arc::new(db)).unwrap());
    eprintln!("policy {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    let shared = Arc::new(Shared::new(1 << 21));
    eprintln!("shared {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    let _p = Pipeline::new(policy, shared).unwrap();
    eprintln!("pipeline {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    let key = oktsec_contract::keys::proxy_key(&paths.root).unwrap();
    let (_log, _w) = oktsec_audit::open(oktsec_audit::WriterOptions {
        dir: paths.audit.clone(),
        node: config.node.clone(),
        durability: config.audit.durability,
        sync_interval: std::time::Duration::from_millis(5),
        key,
        queue_records_max: 65536,
        queue_bytes_max: 256 << 20,
    })
    .unwrap();
    eprintln!("audit {:?} {}", t.elapsed(), rss());
}
