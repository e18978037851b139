//! A bare Debian without Rust, in a temporary directory, and as a container in which systemd runs.
//!
//! The scenarios of `e2e` that install packages come here. debootstrap makes the first one, which
//! is kept below `target`; the others are copies of it. All of it needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::build::Built;
use super::captured::Captured;

/// A directory with Debian, which is deleted when it is dropped.
pub(crate) struct Debian {
    folder: TempDir,
}

impl Debian {
    /// A new one, or why there is none here. `built` says where the first one is kept.
    pub(crate) fn new(built: &Built) -> Result<Self, String> {
        let kept = kept(built)?;
        let folder = tempfile::Builder::new().prefix("web-ipc-debian-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary directory: {error}"))?;
        run(Command::new("cp")
            .arg("--archive")
            .arg("--no-target-directory")
            .arg(kept)
            .arg(folder.path()))?;
        Ok(Self { folder })
    }

    /// Its root directory, as it is seen from outside.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A program that runs in it as root.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        inside(command.arg(self.path()), words);
        command
    }
}

/// The environment that a login of root has, and the words of a command.
fn inside(command: &mut Command, words: &[&str]) {
    command
        .args(words)
        .env_clear()
        .env("HOME", "/root")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// The directory with the Debian of this host's release that copies are made of.
fn kept(built: &Built) -> Result<PathBuf, String> {
    let of_host = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = suite(&of_host).ok_or("this host is not Debian, or of no release")?;
    let folder = built.folder.parent().unwrap_or(&built.folder).join(format!("debian-{suite}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    println!("e2e: debootstrap makes {}", folder.display());
    let new = folder.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    // Without a network it would try for long.
    let mut command = Command::new("timeout");
    command
        .args(["900", "debootstrap", "--variant=minbase", "--include=systemd-sysv,dbus", suite])
        .arg(&new);
    run(&mut command)?;
    for package in fs::read_dir(new.join("var/cache/apt/archives")).into_iter().flatten().flatten()
    {
        // What cannot be removed only takes room.
        let _ = fs::remove_file(package.path());
    }
    fs::rename(&new, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// The name of Debian's release in `/etc/os-release`.
fn suite(text: &str) -> Option<&str> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    (value("ID=") == Some("debian")).then(|| value("VERSION_CODENAME=")).flatten()
}

/// Runs a command to its end. What it printed is in the error.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let last = told.trim().lines().last().unwrap_or_default();
    Err(format!("{name} failed ({}): {last}", output.status))
}

/// What `unshare` separates from the host.
const SEPARATE: [&str; 8] =
    ["--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--kill-child"];

/// Mounts what [`BOOT`] mounts, one after the other.
const PROBE: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc /mnt && umount /mnt
mount -t sysfs -o ro sysfs /mnt && umount /mnt
mount -t tmpfs tmpfs /mnt && umount /mnt
mount -t cgroup2 cgroup2 /mnt
"#;

/// Makes the directory $1 the root, with what systemd expects there, and becomes systemd. The root
/// is changed by pivot_root, since the kernel lets no process make a user namespace in a chroot.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s pts/ptmx dev/ptmx
mkdir before
pivot_root . before
umount --lazy before
rmdir before
exec env -i container=web-ipc-e2e PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --show-status=0 systemd.unit=multi-user.target
"#;

/// Waits until systemd, below the process $1, has started everything, and prints its id.
const AWAIT: &str = r#"
while :; do
    # Nobody has asked yet how it ended.
    case $(sed 's/.*) //' "/proc/$1/stat") in Z*) exit 1 ;; esac
    init=$(tr -d ' ' <"/proc/$1/task/$1/children") || exit 1
    if [ -n "$init" ]; then
        state=$(nsenter --target "$init" --all systemctl is-system-running --wait 2>/dev/null)
        case $state in running | degraded) echo "$init"; exit ;; esac
    fi
    sleep 0.1
done
"#;

/// Removes the directory $1 of the cgroup file system, once its processes are gone.
const SWEEP: &str = r#"
for turn in 1 2 3 4 5 6 7 8 9 10; do
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null && exit
    sleep 0.2
done
"#;

/// A Debian in which systemd runs, with a network of its own. It is stopped when it is dropped.
pub(crate) struct Container {
    debian: Debian,
    /// `unshare`. Its end kills systemd, and that everything in the container.
    process: Option<Captured>,
    cgroup: PathBuf,
    /// The process id of systemd, as the host sees it.
    init: String,
}

impl Container {
    /// Why none can run here; `None` if one can.
    pub(crate) fn lacks() -> Option<String> {
        let probe = || {
            let cgroup = make_cgroup()?;
            let mut command = Command::new("unshare");
            command.args(SEPARATE).args(["sh", "-c", PROBE]);
            let made = run(&mut command);
            let _ = fs::remove_dir(cgroup);
            made?;
            run(Command::new("nsenter").arg("--version"))
        };
        probe().err().map(|error| format!("no container for systemd: {error}"))
    }

    /// Starts systemd in a Debian, and waits until it has started everything.
    pub(crate) fn start(debian: Debian) -> Result<Self, String> {
        let cgroup = make_cgroup()?;
        let mut command = Command::new("sh");
        let script = "echo $$ >\"$2/cgroup.procs\" && shift 2 && exec unshare \"$@\"";
        command.args(["-c", script, "sh"]).arg("-").arg(&cgroup).args(SEPARATE);
        command.args(["sh", "-c", BOOT, "sh"]).arg(debian.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = Captured::start(command, "")?;
        let id = process.id().to_string();
        let mut made = Self { debian, process: Some(process), cgroup, init: String::new() };
        let mut command = Command::new("sh");
        command.args(["-c", AWAIT, "sh", &id]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let finished = Captured::start(command, "")?.finish()?;
        if !finished.status.success() {
            return Err(finished.report());
        }
        finished.stdout.trim().clone_into(&mut made.init);
        Ok(made)
    }

    /// Its root directory, as it is seen from outside.
    pub(crate) fn path(&self) -> &Path {
        self.debian.path()
    }

    /// A program that runs in it as root.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        inside(command.args(["--target", &self.init, "--all"]), words);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.process = None;
        // What stays is an empty directory.
        let _ = Command::new("sh").args(["-c", SWEEP, "sh"]).arg(&self.cgroup).status();
    }
}

/// A directory of its own in the cgroup file system of version 2, wherever the host has it.
fn make_cgroup() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = cgroup2(&mounts).ok_or("no cgroup file system of version 2 is mounted")?;
    let folder = Path::new(at).join(format!("web-ipc-e2e-{}", std::process::id()));
    // One that an earlier process with this id left.
    let _ = fs::remove_dir(&folder);
    fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn cgroup2(mounts: &str) -> Option<&str> {
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.filter(|words| words.get(2) == Some(&"cgroup2")).find_map(|words| words.get(1).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_debian_is_read() {
        assert_eq!(suite("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(suite("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(suite("ID=debian\n"), None);
    }

    #[test]
    fn the_cgroup_file_system_is_found() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(cgroup2(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup2("proc /proc proc rw 0 0\n"), None);
    }
}
