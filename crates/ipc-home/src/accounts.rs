//! Looks up users and groups in the system's account files.
//!
//! Errors use it for the name of an owner, and the check of a path for the members of a group and
//! for the current user. It reads only `/etc/passwd` and `/etc/group`: users of a directory service
//! are shown by number.

use std::path::Path;

/// The effective user id of this process.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether the group `gid` belongs to the user `uid` alone: it has the same number, as account
/// tools assign it, and `/etc/group` lists no other member. Root's group counts as root.
pub(crate) fn is_private_group(uid: u32, gid: u32) -> bool {
    uid == gid && read("/etc/group").is_none_or(|groups| has_no_other_member(&groups, gid))
}

/// The name of the user with this number.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    name_in(&read("/etc/passwd")?, uid)
}

fn read(path: &str) -> Option<String> {
    std::fs::read(Path::new(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Looks in lines of `NAME:PASSWORD:NUMBER:…`.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Looks in lines of `NAME:PASSWORD:NUMBER:MEMBER,MEMBER`. A private group has the name of its
/// user.
fn has_no_other_member(groups: &str, gid: u32) -> bool {
    groups.lines().all(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, members] = fields[..] else { return true };
        number.parse() != Ok(gid)
            || members.split(',').all(|member| member.is_empty() || member == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nada:x:1000:\nbob:x:1001:bob\nstaff:x:50:ada\ncarol:x:1002:carol,ada\n";

    #[test]
    fn a_name_is_found_by_its_number() {
        assert_eq!(name_in(PASSWD, 1000).as_deref(), Some("ada"));
        assert_eq!(name_in(PASSWD, 100), None);
        assert_eq!(name_in("broken\nx:y\n:::\n", 0), None);
    }

    #[test]
    fn a_group_is_private_while_it_names_nobody_but_its_user() {
        for (gid, is_private) in [(1000, true), (1001, true), (1002, false), (50, false), (7, true)]
        {
            assert_eq!(has_no_other_member(GROUP, gid), is_private, "{gid}");
        }
    }

    #[test]
    fn a_group_of_another_number_than_its_user_is_not_private() {
        assert!(!is_private_group(1000, 50));
    }
}
