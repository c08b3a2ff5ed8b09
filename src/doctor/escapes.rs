//! Known ways out of a container through the runtime, and the versions that close them.
//!
//! From the advisories at <https://github.com/opencontainers/runc/security/advisories> and
//! <https://github.com/containerd/containerd/security/advisories>.

use std::cmp::Ordering;

/// A version as runc and containerd have them: `1.1.12`, `1.0.0-rc93`, `1.4.0-rc.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u32; 3],
    candidate: Option<u32>,
}

impl Version {
    const fn release(major: u32, minor: u32, patch: u32) -> Self {
        Self { numbers: [major, minor, patch], candidate: None }
    }

    const fn candidate(major: u32, minor: u32, patch: u32, candidate: u32) -> Self {
        Self { numbers: [major, minor, patch], candidate: Some(candidate) }
    }

    /// The version, and what of `text` is no part of it: what a distribution adds.
    pub(super) fn parse(text: &str) -> Option<(Self, &str)> {
        let mut rest = text.trim().trim_start_matches('v');
        let mut numbers = [0; 3];
        for (index, number) in numbers.iter_mut().enumerate() {
            if index > 0 {
                rest = rest.strip_prefix('.')?;
            }
            (*number, rest) = leading_number(rest)?;
        }
        let candidate = ["-rc.", "-rc", "~rc.", "~rc"].iter().find_map(|mark| rest.strip_prefix(mark));
        match candidate.and_then(leading_number) {
            Some((candidate, rest)) => Some((Self { numbers, candidate: Some(candidate) }, rest)),
            None => Some((Self { numbers, candidate: None }, rest)),
        }
    }

    fn is_on_the_branch_of(&self, other: &Self) -> bool {
        self.numbers.first() == other.numbers.first() && self.numbers.get(1) == other.numbers.get(1)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A release comes after its candidates.
        let rank = |version: &Self| version.candidate.unwrap_or(u32::MAX);
        self.numbers.cmp(&other.numbers).then_with(|| rank(self).cmp(&rank(other)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    digits.parse().ok().map(|number| (number, rest))
}

/// A way out that was closed.
#[derive(Debug)]
struct Escape {
    name: &'static str,
    since: Version,
    /// The first good version of each branch that got one, in order.
    fixed: &'static [Version],
}

const OLDEST: Version = Version::candidate(0, 0, 0, 0);

const RUNC_2025: &[Version] =
    &[Version::release(1, 2, 8), Version::release(1, 3, 3), Version::candidate(1, 4, 0, 3)];

const RUNC: &[Escape] = &[
    Escape { name: "CVE-2019-5736", since: OLDEST, fixed: &[Version::candidate(1, 0, 0, 7)] },
    Escape {
        name: "CVE-2024-21626",
        since: Version::candidate(1, 0, 0, 93),
        fixed: &[Version::release(1, 1, 12)],
    },
    Escape { name: "CVE-2025-31133", since: OLDEST, fixed: RUNC_2025 },
    Escape { name: "CVE-2025-52565", since: Version::candidate(1, 0, 0, 3), fixed: RUNC_2025 },
    Escape { name: "CVE-2025-52881", since: OLDEST, fixed: RUNC_2025 },
];

/// Needs a container on the host's network.
const CONTAINERD: &[Escape] = &[Escape {
    name: "CVE-2020-15257",
    since: OLDEST,
    fixed: &[Version::release(1, 3, 9), Version::release(1, 4, 3)],
}];

/// The known escapes that this version of runc, as its makers released it, has open.
pub(super) fn of_runc(version: Version) -> Vec<&'static str> {
    open(RUNC, version)
}

/// The same of containerd, for containers on the host's network.
pub(super) fn of_containerd(version: Version) -> Vec<&'static str> {
    open(CONTAINERD, version)
}

fn open(escapes: &'static [Escape], version: Version) -> Vec<&'static str> {
    let is_open = |escape: &&Escape| {
        let on_branch = escape.fixed.iter().find(|fixed| fixed.is_on_the_branch_of(&version));
        let first_good = on_branch.or(escape.fixed.last());
        version >= escape.since && first_good.is_some_and(|good| version < *good)
    };
    escapes.iter().filter(is_open).map(|escape| escape.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}")).0
    }

    #[test]
    fn each_version_of_runc_has_its_escapes() {
        let old = ["CVE-2019-5736"].as_slice();
        let leak = ["CVE-2024-21626"].as_slice();
        let masks = ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"].as_slice();
        for (text, expected) in [
            ("1.0.0-rc2", [old, &["CVE-2025-31133", "CVE-2025-52881"]].concat()),
            ("1.0.0-rc6", [old, masks].concat()),
            ("1.0.0-rc7", masks.to_vec()),
            ("1.0.0~rc92", masks.to_vec()),
            ("1.0.0-rc93", [leak, masks].concat()),
            ("1.1.5+ds1", [leak, masks].concat()),
            ("1.1.11", [leak, masks].concat()),
            ("1.1.12", masks.to_vec()),
            ("1.1.15", masks.to_vec()),
            ("1.2.7", masks.to_vec()),
            ("1.2.8", Vec::new()),
            ("1.3.0", masks.to_vec()),
            ("1.3.2", masks.to_vec()),
            ("1.3.3", Vec::new()),
            ("1.4.0-rc.2", masks.to_vec()),
            ("1.4.0-rc.3", Vec::new()),
            ("1.4.0", Vec::new()),
            ("2.0.0", Vec::new()),
        ] {
            assert_eq!(of_runc(version(text)), expected, "{text}");
        }
    }

    #[test]
    fn containerd_has_one_for_the_hosts_network() {
        assert_eq!(of_containerd(version("1.3.8")), ["CVE-2020-15257"]);
        assert_eq!(of_containerd(version("1.4.2")), ["CVE-2020-15257"]);
        assert!(
            of_containerd(version("1.3.9")).is_empty() && of_containerd(version("1.6.20~ds1")).is_empty()
        );
    }

    #[test]
    fn what_a_distribution_adds_is_told_apart() {
        assert_eq!(Version::parse("v1.4.0-rc.3"), Some((Version::candidate(1, 4, 0, 3), "")));
        assert_eq!(Version::parse("1.1.5+ds1"), Some((Version::release(1, 1, 5), "+ds1")));
        assert_eq!(Version::parse("1.0.0~rc93+ds1"), Some((Version::candidate(1, 0, 0, 93), "+ds1")));
        assert_eq!(Version::parse("unknown"), None);
    }
}
