//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, as far as a pull policy has to understand them.

use super::Registry;

/// An image as configured, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Without tag and digest.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    pub(super) fn parse(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let colon = rest.get(path_start..).and_then(|path| path.find(':')).map(|colon| path_start + colon);
        let (name, tag) = match colon.and_then(|colon| rest.split_at_checked(colon)) {
            Some((name, tag)) => (name, Some(tag.trim_start_matches(':')).filter(|tag| !tag.is_empty())),
            None => (rest, None),
        };
        Self { name: name.to_owned(), tag: tag.map(str::to_owned), digest }
    }

    /// Where it comes from. The first part of a name is a host if it cannot be anything else.
    pub(super) fn registry(&self) -> Registry {
        let host = self.name.split_once('/').map(|(host, _)| host);
        let host = host.filter(|host| host.contains(['.', ':']) || *host == "localhost");
        host.and_then(|host| host.parse().ok()).unwrap_or_default()
    }

    /// Whether the same reference may mean another image tomorrow, as `latest` does.
    pub(super) fn floats(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref().is_none_or(|tag| tag == "latest")
    }

    /// What to ask the engine to pull: name, and tag or digest. Never without, since that would mean every tag.
    pub(super) fn to_pull(&self) -> (&str, &str) {
        let which = self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest");
        (&self.name, which)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, String, bool) {
        let reference = Reference::parse(text);
        let (name, which) = reference.to_pull();
        (name.to_owned(), which.to_owned(), reference.floats())
    }

    /// I4
    #[test]
    fn a_port_is_no_tag_and_a_digest_never_floats() {
        for (text, name, which, floats) in [
            ("foo", "foo", "latest", true),
            ("foo:", "foo", "latest", true),
            ("foo:latest", "foo", "latest", true),
            ("foo:1.2", "foo", "1.2", false),
            ("registry:5000/foo", "registry:5000/foo", "latest", true),
            ("registry:5000/a/foo:v1", "registry:5000/a/foo", "v1", false),
            ("foo@sha256:abc", "foo", "sha256:abc", false),
            ("registry:5000/foo:v1@sha256:abc", "registry:5000/foo", "sha256:abc", false),
            ("", "", "latest", true),
        ] {
            assert_eq!(parsed(text), (name.to_owned(), which.to_owned(), floats), "{text}");
        }
    }

    /// I6
    #[test]
    fn the_registry_is_the_first_part_if_that_is_a_host() {
        for (text, host) in [
            ("foo", "docker.io"),
            ("joe/foo:v1", "docker.io"),
            ("docker.io/library/foo", "docker.io"),
            ("registry:5000/foo", "registry:5000"),
            ("ghcr.io/a/b@sha256:abc", "ghcr.io"),
            ("localhost/foo", "localhost"),
            ("foo:1.2", "docker.io"),
        ] {
            assert_eq!(Reference::parse(text).registry().host(), host, "{text}");
        }
    }
}
