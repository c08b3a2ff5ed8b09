//! What a request asks of the engine, as one word of a closed set.

use hyper::Method;

/// `container-create`, `exec-start` …; `other` for what we never send.
pub(super) fn of(method: &Method, path: &str) -> &'static str {
    let path = path.trim_start_matches('/');
    // `v1.41/`
    let path = match path.split_once('/') {
        Some((version, rest)) if version.starts_with("v1.") => rest,
        _ => path,
    };
    let (subject, rest) = path.split_once('/').unwrap_or((path, ""));
    // An image's name may have slashes in it.
    let verb = rest.rsplit('/').next().unwrap_or_default();
    let is_whole = verb == rest;
    match (subject, method.as_str(), verb) {
        ("containers", "POST", "create") if is_whole => "container-create",
        ("containers", "GET", "json") if is_whole => "container-list",
        ("containers", "GET", "json") => "container-inspect",
        ("containers", "POST", "start") => "container-start",
        ("containers", "POST", "attach") => "container-attach",
        ("containers", "POST", "rename") => "container-rename",
        ("containers", "POST", "exec") => "exec-create",
        ("containers", "GET", "archive") => "archive-get",
        ("containers", "PUT", "archive") => "archive-put",
        ("containers", "GET", "changes") => "container-changes",
        ("containers", "DELETE", _) => "container-remove",
        ("exec", "POST", "start") => "exec-start",
        ("exec", "POST", "resize") => "exec-resize",
        ("exec", "GET", "json") => "exec-inspect",
        ("images", "POST", "create") if is_whole => "image-pull",
        ("images", "GET", "json") => "image-inspect",
        ("volumes", ..) => "volume",
        ("events", ..) => "events",
        ("version" | "info" | "_ping", ..) => "describe",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_told_whatever_it_is_asked_about() {
        for (method, path, expected) in [
            (Method::POST, "/v1.41/containers/create", "container-create"),
            (Method::POST, "/containers/create", "container-create"),
            (Method::GET, "/v1.41/containers/json", "container-list"),
            (Method::GET, "/v1.41/containers/0123/json", "container-inspect"),
            (Method::DELETE, "/v1.41/containers/0123", "container-remove"),
            (Method::POST, "/v1.41/exec/0123/start", "exec-start"),
            (Method::GET, "/v1.41/images/registry:5000/a/create/json", "image-inspect"),
            (Method::GET, "/v1.41/images/containers/json", "image-inspect"),
            (Method::GET, "/_ping", "describe"),
            (Method::GET, "/", "other"),
            (Method::GET, "", "other"),
        ] {
            assert_eq!(of(&method, path), expected, "{method} {path}");
        }
    }
}
