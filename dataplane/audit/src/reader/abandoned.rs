//! Folders of readers whose process is gone: one that is killed cannot remove its own, so the next one does.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Removes folders in `parent` that are called `<prefix><process>-…`, are our user's and whose process is gone. Only
/// where the system can tell. Others with such names are left: `parent` may be one that everybody writes to.
pub fn remove_abandoned(parent: &Path, prefix: &str) {
    let Ok(ours) = std::fs::metadata("/proc/self").map(|own| own.uid()) else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(process, _)| process.parse::<u32>().ok());
        // Of the entry itself, not of what a link points to.
        let is_our_folder = || {
            entry
                .metadata()
                .is_ok_and(|entry| entry.is_dir() && entry.uid() == ours)
        };
        if let Some(process) = process
            && !Path::new("/proc").join(process.to_string()).exists()
            && is_our_folder()
        {
            // In a process of another namespace it may still be open; all that is lost then is RocksDB's own log.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
