//! What the operating system counts about this process: the usual `process_*` families.

use std::fs;

/// Numbers from `/proc/self`; a field that cannot be read is absent.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
    pub(super) start_seconds: Option<f64>,
    pub(super) threads: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
}

impl Process {
    #[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
    pub(super) fn read() -> Self {
        let mut process = Self::default();
        let page = rustix::param::page_size() as f64;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            // The name in parentheses may hold spaces: fields are counted behind it, from 3 on.
            let fields: Vec<&str> = stat
                .rsplit_once(')')
                .map(|(_, rest)| rest.split_ascii_whitespace().collect())
                .unwrap_or_default();
            let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<f64>().ok());
            process.cpu_seconds = field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / ticks);
            process.threads = field(20);
            process.virtual_bytes = field(23);
            process.resident_bytes = field(24).map(|pages| pages * page);
            process.start_seconds = field(22)
                .zip(boot_seconds())
                .map(|(since, boot)| boot + since / ticks);
        }
        process.open_fds = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| fds.count() as f64);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        process.max_fds = limit.current.map(|n| n as f64);
        process
    }
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_all_numbers() {
        let process = Process::read();
        assert!(
            process.resident_bytes.is_some_and(|bytes| bytes > 1e5),
            "{process:?}"
        );
        assert!(
            process.open_fds.is_some_and(|fds| fds >= 3.0),
            "{process:?}"
        );
        assert!(
            process.start_seconds.is_some_and(|at| at > 1.5e9),
            "{process:?}"
        );
        assert!(process.threads.is_some_and(|n| n >= 1.0), "{process:?}");
    }
}
