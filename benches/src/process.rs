//! What the kernel tells about a process: CPU time, memory, who listens on a port.

use std::fs;
use std::io;
use std::time::Duration;

/// User and system time of all threads of a process, also of those that ended. Resolution is one kernel tick
/// (10 ms as a rule).
///
/// # Errors
/// If there is no such process.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces and brackets; behind its last bracket come plain fields.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_ascii_whitespace()
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "/proc/PID/stat has another form",
        ));
    };
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_micros(
        (user + system) * 1_000_000 / per_second,
    ))
}

/// What all CPUs of this machine did so far, as far as it may have disturbed a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// User and system time of everybody. Interrupts are left out: those of our own packets are among them.
    pub busy: Duration,
    /// What another guest of the same host took.
    pub stolen: Duration,
}

/// See [`Machine`].
///
/// # Errors
/// If the kernel does not tell.
pub fn machine_time() -> io::Result<Machine> {
    machine_of(&fs::read_to_string("/proc/stat")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has another form"))
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, …, in ticks.
fn machine_of(stat: &str) -> Option<Machine> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let time = |ticks: u64| Duration::from_micros(ticks * 1_000_000 / per_second);
    match ticks[..] {
        [user, nice, system, _, _, _, _, stolen, ..] => Some(Machine {
            busy: time(user + nice + system),
            stolen: time(stolen),
        }),
        _ => None,
    }
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Everything resident.
    pub resident_kib: u64,
    /// Of it, what belongs to no file.
    pub anonymous_kib: u64,
}

/// Memory of a process now.
///
/// # Errors
/// If there is no such process.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .trim()
                    .strip_suffix("kB")?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0)
    };
    Ok(Memory {
        resident_kib: kib("VmRSS:"),
        anonymous_kib: kib("RssAnon:"),
    })
}

/// The process that listens on a TCP port of this machine; the one with the lowest id if several do.
pub fn listener(port: u16) -> Option<u32> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        inodes.extend(listening_inodes(
            &fs::read_to_string(table).unwrap_or_default(),
            port,
        ));
    }
    let sockets: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| {
                sockets
                    .iter()
                    .any(|socket| target.as_os_str() == socket.as_str())
            })
        })
    })
}

/// Fields of `/proc/net/tcp`: number, local address, remote address, state (0A listens), …, inode as the tenth.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let local = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A") && fields.get(1)?.ends_with(&local);
            listens.then(|| fields.get(9)?.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{cpu_time, listener, listening_inodes, machine_of, machine_time, memory};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    #[test]
    fn busy_time_shows_in_cpu_time() {
        let me = std::process::id();
        let (start, before) = (Instant::now(), cpu_time(me).unwrap());
        while cpu_time(me).unwrap() < before + Duration::from_millis(30) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no CPU time was counted"
            );
        }
    }

    #[test]
    fn what_others_did_is_user_and_system_time_without_interrupts() {
        let tick =
            |n: u64| Duration::from_micros(n * 1_000_000 / rustix::param::clock_ticks_per_second());
        let machine =
            machine_of("cpu  10 1 5 900 7 70 700 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n").unwrap();
        assert_eq!((machine.busy, machine.stolen), (tick(16), tick(3)));
        assert_eq!(machine_of("intr 1 2 3"), None);
        assert!(machine_time().unwrap().busy > Duration::ZERO);
    }

    #[test]
    fn memory_of_this_process_is_known() {
        let memory = memory(std::process::id()).unwrap();
        assert!(
            memory.anonymous_kib > 0 && memory.resident_kib > memory.anonymous_kib,
            "{memory:?}"
        );
    }

    #[test]
    fn the_listener_of_a_port_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            listener(socket.local_addr().unwrap().port()),
            Some(std::process::id())
        );
    }

    #[test]
    fn only_listening_sockets_of_the_very_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
            2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n";
        assert_eq!(listening_inodes(table, 8080), [4711]);
    }
}
