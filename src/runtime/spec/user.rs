//! Who a process runs as: `uid`, `uid:gid`, `name`, `name:group`.

use oci_spec::runtime::{User, UserBuilder};

use super::{Cause, text};

/// Part of a user string: a number stands for itself, a name must be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Number(u32),
    Name(String),
}

/// A parsed user string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    user: Id,
    group: Option<Id>,
}

/// An image's `/etc/passwd` and `/etc/group`; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) passwd: String,
    pub(super) group: String,
}

impl Wanted {
    /// Reads a user string; empty is root.
    pub(super) fn parse(user: &str) -> Result<Self, Cause> {
        let (user_part, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let bad = |why: &str| format!("user {user:?} is invalid: {why}");
        let id = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            // The last number means "no change" to the kernel (setresuid(2)).
            true => match text.parse::<u32>() {
                Ok(n) if n != u32::MAX => Ok(Id::Number(n)),
                _ => Err(bad("the number is too large")),
            },
            false if text.contains([':', '\0', '\n', ',']) => {
                Err(bad("it is not uid, uid:gid, name or name:group"))
            }
            false => Ok(Id::Name(text.to_owned())),
        };
        let user = if user_part.is_empty() {
            Id::Number(0)
        } else {
            id(user_part)?
        };
        // As others read it, `name:` is `name`.
        let group = group.filter(|g| !g.is_empty()).map(id).transpose()?;
        Ok(Self { user, group })
    }

    /// The user when no file needs to be read for it: root, or two numbers.
    pub(super) fn without_lookup(&self) -> Option<Result<User, Cause>> {
        let uid = match &self.user {
            Id::Number(uid) => *uid,
            Id::Name(name) if name == "root" => 0,
            Id::Name(_) => return None,
        };
        let gid = match &self.group {
            Some(Id::Number(gid)) => *gid,
            Some(Id::Name(name)) if name == "root" => 0,
            None if uid == 0 => 0,
            _ => return None,
        };
        Some(assemble(uid, gid, Vec::new()))
    }

    /// The user by an image's files. A number need not be in them; a name must.
    pub(super) fn resolve(&self, accounts: &Accounts, image: &str) -> Result<User, Cause> {
        let found = accounts
            .passwd
            .lines()
            .filter_map(passwd_line)
            .find(|p| match &self.user {
                Id::Number(uid) => p.uid == *uid,
                Id::Name(name) => p.name == name,
            });
        let uid = match (&self.user, &found) {
            (_, Some(entry)) => entry.uid,
            (Id::Number(uid), None) => *uid,
            (Id::Name(name), None) => {
                return Err(format!(
                    "user {name:?} is not in /etc/passwd of image {image}"
                ));
            }
        };
        let groups = || accounts.group.lines().filter_map(group_line);
        match &self.group {
            Some(Id::Number(gid)) => assemble(uid, *gid, Vec::new()),
            Some(Id::Name(name)) => match groups().find(|g| g.name == name) {
                Some(group) => assemble(uid, group.gid, Vec::new()),
                None => Err(format!(
                    "group {name:?} is not in /etc/group of image {image}"
                )),
            },
            None => {
                let Some(entry) = found else {
                    return assemble(uid, 0, Vec::new());
                };
                let more = groups()
                    .filter(|g| g.members.split(',').any(|m| m == entry.name))
                    .map(|g| g.gid)
                    .collect();
                assemble(uid, entry.gid, more)
            }
        }
    }
}

/// The first group is repeated among the additional ones: a process that drops
/// its main group must not pass for someone outside it.
fn assemble(uid: u32, gid: u32, mut more: Vec<u32>) -> Result<User, Cause> {
    more.push(gid);
    more.sort_unstable();
    more.dedup();
    UserBuilder::default()
        .uid(uid)
        .gid(gid)
        .additional_gids(more)
        .build()
        .map_err(text)
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// `name:password:uid:gid:…`; what is damaged is passed over.
fn passwd_line(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Passwd { name, uid, gid })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member…`
fn group_line(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields.next().unwrap_or("");
    Some(Group { name, gid, members })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# note\nbroken:x:y\nalice:x:1000:1001:A:/:/bin/sh\nbob:x:1002:50::/:\n".into(),
            group: "root:x:0:\nstaff:x:50:\nwheel:x:10:bob,alice\nalices:x:1001:\nextra:x:77:alice\n".into(),
        }
    }

    fn resolve(user: &str) -> Result<(u32, u32, Vec<u32>), Cause> {
        let user = Wanted::parse(user)?.resolve(&accounts(), "bb")?;
        let more = user.additional_gids().clone().unwrap();
        Ok((user.uid(), user.gid(), more))
    }

    #[test]
    fn names_and_numbers_are_resolved() {
        for (user, want) in [
            ("", (0, 0, vec![0])),
            ("alice", (1000, 1001, vec![10, 77, 1001])),
            ("1000", (1000, 1001, vec![10, 77, 1001])),
            ("4711", (4711, 0, vec![0])),
            ("alice:staff", (1000, 50, vec![50])),
            ("alice:4711", (1000, 4711, vec![4711])),
            ("4711:staff", (4711, 50, vec![50])),
            ("5:6", (5, 6, vec![6])),
            ("bob:", (1002, 50, vec![10, 50])),
        ] {
            assert_eq!(resolve(user).unwrap(), want, "{user}");
        }
    }

    #[test]
    fn unknown_names_are_told_with_their_image() {
        for (user, name) in [
            ("carol", "carol"),
            ("alice:nobody", "nobody"),
            ("broken", "broken"),
        ] {
            let error = resolve(user).unwrap_err();
            assert!(error.contains(name) && error.contains("bb"), "{error}");
        }
    }

    #[test]
    fn strings_of_no_form_are_refused() {
        for user in ["a:b:c", "4294967295", "99999999999", "a\nb", "a,b", "1:2:3"] {
            assert!(Wanted::parse(user).is_err(), "{user}");
        }
    }

    #[test]
    fn the_usual_users_need_no_file() {
        for (user, want) in [
            ("", (0, 0)),
            ("0", (0, 0)),
            ("root", (0, 0)),
            ("0:5", (0, 5)),
            ("7:8", (7, 8)),
            ("root:root", (0, 0)),
        ] {
            let got = Wanted::parse(user)
                .unwrap()
                .without_lookup()
                .unwrap()
                .unwrap();
            assert_eq!((got.uid(), got.gid()), want, "{user}");
        }
        for user in ["alice", "1000", "alice:5", "5:staff"] {
            assert!(
                Wanted::parse(user).unwrap().without_lookup().is_none(),
                "{user}"
            );
        }
    }

    proptest! {
        /// Any string is either refused or resolved; two numbers are themselves.
        #[test]
        fn anything_is_answered(user in ".{0,20}", passwd in ".{0,60}", group in ".{0,60}") {
            if let Ok(wanted) = Wanted::parse(&user) {
                let _ = wanted.resolve(&Accounts { passwd, group }, "i");
            }
        }

        #[test]
        fn numbers_stand_for_themselves(uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let wanted = Wanted::parse(&format!("{uid}:{gid}")).unwrap();
            let quick = wanted.without_lookup().unwrap().unwrap();
            prop_assert_eq!((quick.uid(), quick.gid()), (uid, gid));
            prop_assert_eq!(wanted.resolve(&Accounts::default(), "i").unwrap(), quick);
        }

        /// A name is found whatever lines stand around it.
        #[test]
        fn names_are_found_among_noise(
            name in "[a-z_][a-z0-9_-]{0,12}",
            uid in 0..u32::MAX,
            gid in 0..u32::MAX,
            noise in "[^\\n:]{0,30}",
        ) {
            let accounts = Accounts {
                passwd: format!("{noise}\n{noise}:\nx{name}:x:1:1::/:\n{name}:x:{uid}:{gid}::/:\n"),
                group: String::new(),
            };
            let user = Wanted::parse(&name).unwrap().resolve(&accounts, "i").unwrap();
            prop_assert_eq!((user.uid(), user.gid()), (uid, gid));
        }
    }
}
