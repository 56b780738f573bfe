//! How much memory this process may still take before somebody ends it.
//!
//! Four may: the machine, when it has none left; the container (control groups of either version, each level above
//! included), which kills; and the process's own limits (`ulimit -v`, `ulimit -d`), on which an allocation fails and the
//! process aborts. The least that one of them leaves is what is free. Where the system tells nothing, nothing is known
//! and nobody is refused.

use std::fs;
use std::path::{Path, PathBuf};

/// What a limit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may be in use in all.
    pub limit: u64,
    /// Bytes that may still be taken.
    pub free: u64,
    /// Whose limit it is: the words after "the … that".
    pub whose: &'static str,
}

impl Room {
    /// What is wrong with taking `needed` bytes, as words that go after the name of what needs them; None if nothing is.
    pub fn lacks(&self, needed: u64) -> Option<String> {
        let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
        let [limit, free, needed_words] = [self.limit, self.free, needed].map(gigabytes);
        match needed {
            _ if needed > self.limit => {
                Some(format!("takes {needed_words} of memory, more than the {limit} that {}", self.whose))
            }
            _ if needed > self.free => Some(format!(
                "takes {needed_words} of memory, and of the {limit} that {} {free} are free",
                self.whose
            )),
            _ => None,
        }
    }
}

/// The room that the strictest limit leaves; None where the system does not tell.
pub fn room() -> Option<Room> {
    rooms(Path::new("/")).into_iter().min_by_key(|room| room.free)
}

/// The room that the strictest limit would leave with nothing else in memory; None where the system does not tell.
pub fn most() -> Option<Room> {
    let strictest = rooms(Path::new("/")).into_iter().min_by_key(|room| room.limit)?;
    Some(Room { free: strictest.limit, ..strictest })
}

fn rooms(root: &Path) -> Vec<Room> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut rooms = Vec::new();
    let memory = read("proc/meminfo");
    if let (Some(limit), Some(free)) = (kilobytes(&memory, "MemTotal:"), kilobytes(&memory, "MemAvailable:"))
    {
        rooms.push(Room { limit, free, whose: "this machine has" });
    }
    for line in read("proc/self/cgroup").lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            let files = ["memory.max", "memory.current", "memory.stat", "inactive_file"];
            rooms.extend(group(&root.join("sys/fs/cgroup"), path, files));
        } else if controllers.split(',').any(|name| name == "memory") {
            let files =
                ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"];
            rooms.extend(group(&root.join("sys/fs/cgroup/memory"), path, files));
        }
    }
    let (limits, status) = (read("proc/self/limits"), read("proc/self/status"));
    for (name, used, whose) in [
        ("Max address space", "VmSize:", "this process may address (ulimit -v)"),
        ("Max data size", "VmData:", "this process may take (ulimit -d)"),
    ] {
        let limit =
            limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        if let (Some(limit), Some(used)) = (limit, kilobytes(&status, used)) {
            rooms.push(Room { limit, free: u64::saturating_sub(limit, used), whose });
        }
    }
    rooms
}

/// The rooms of a control group and of those above it. Inside a container the group's path may be that of the host:
/// then the mounted root is the container's own group.
fn group(mount: &Path, path: &str, [limit, used, stat, cache]: [&str; 4]) -> Vec<Room> {
    let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let mut folder = mount.join(path.trim_start_matches('/'));
    let mut rooms = Vec::new();
    loop {
        // "max", or in version 1 a number near 2⁶³, is no limit.
        if let (Some(limit), Some(used)) = (number(folder.join(limit)), number(folder.join(used)))
            && limit < 1 << 60
        {
            let stat = fs::read_to_string(folder.join(stat)).unwrap_or_default();
            let cache = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok());
            let used = used.saturating_sub(cache.unwrap_or(0));
            rooms.push(Room { limit, free: limit.saturating_sub(used), whose: "this container may take" });
        }
        if folder == mount || !folder.pop() || !folder.starts_with(mount) {
            return rooms;
        }
    }
}

/// The number of a line `NAME: N kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system's files under a folder.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  16000 kB\nMemAvailable:   9000 kB\n");

    fn least(files: &[(&str, &str)]) -> Room {
        rooms(system(files).path()).into_iter().min_by_key(|room| room.free).unwrap()
    }

    #[test]
    fn without_limits_the_machine_counts() {
        let unlimited = (
            "proc/self/limits",
            "Max address space         unlimited            unlimited            bytes\n",
        );
        let group = ("proc/self/cgroup", "0::/user\n");
        let room = least(&[MEMINFO, unlimited, group, ("sys/fs/cgroup/user/memory.max", "max\n")]);
        assert_eq!((room.limit, room.free), (16_000 << 10, 9_000 << 10));
    }

    #[test]
    fn a_container_of_either_version_counts_without_its_cache_and_with_those_above_it() {
        let room = least(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/pod/box\n"),
            ("sys/fs/cgroup/pod/box/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/box/memory.current", "10\n"),
            ("sys/fs/cgroup/pod/memory.max", "5000000\n"),
            ("sys/fs/cgroup/pod/memory.current", "3000000\n"),
            ("sys/fs/cgroup/pod/memory.stat", "anon 7\ninactive_file 1000000\n"),
        ]);
        assert_eq!((room.limit, room.free), (5_000_000, 3_000_000));
        // Version 1 in a container: the host's path is not there.
        let room = least(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 250000\n"),
        ]);
        assert_eq!((room.limit, room.free), (2_000_000, 750_000));
        assert!(room.whose.contains("container"));
    }

    #[test]
    fn a_limit_on_addresses_counts_what_is_mapped() {
        let limits = "Max data size             unlimited            unlimited            bytes\nMax address space         3000000              3000000              bytes\n";
        let room = least(&[
            MEMINFO,
            ("proc/self/limits", limits),
            ("proc/self/status", "VmPeak: 9 kB\nVmSize:\t    1000 kB\n"),
        ]);
        assert_eq!((room.limit, room.free), (3_000_000, 3_000_000 - (1000 << 10)));
        assert!(room.whose.contains("ulimit -v"));
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_numbers() {
        let room = Room { limit: 2_000_000_000, free: 1_200_000_000, whose: "this container may take" };
        assert_eq!(room.lacks(1_200_000_000), None);
        assert_eq!(
            room.lacks(1_500_000_000).unwrap(),
            "takes 1.5 GB of memory, and of the 2.0 GB that this container may take 1.2 GB are free"
        );
        assert_eq!(
            room.lacks(3_000_000_000).unwrap(),
            "takes 3.0 GB of memory, more than the 2.0 GB that this container may take"
        );
    }

    #[test]
    fn where_nothing_is_told_nothing_is_known() {
        assert_eq!(rooms(system(&[]).path()), []);
        assert_eq!(rooms(system(&[("proc/meminfo", "MemAvailable: many\n")]).path()), []);
    }
}
