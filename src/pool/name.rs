//! Names of containers, for whoever looks at the engine's list.

/// Longest part of a user name in the name of a container.
const USERNAME_LETTERS_MAX: usize = 32;

/// The name of a container that somebody has, fit for the engine: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`. `name` is fit already.
pub(super) fn with_user(name: &str, username: &str) -> String {
    let fit =
        |letter: char| if letter.is_ascii_alphanumeric() || "_.-".contains(letter) { letter } else { '_' };
    let username: String = username.chars().take(USERNAME_LETTERS_MAX).map(fit).collect();
    format!("{name}-{username}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A9
    #[test]
    fn any_user_name_makes_a_name_that_engines_take() {
        for (username, expected) in [
            ("alice", "coracle-x-alice"),
            ("al.ice_2-b", "coracle-x-al.ice_2-b"),
            ("../../x", "coracle-x-.._.._x"),
            ("$(id)", "coracle-x-__id_"),
            ("müller@example", "coracle-x-m_ller_example"),
        ] {
            assert_eq!(with_user("coracle-x", username), expected);
        }
        assert_eq!(with_user("c", &"ö".repeat(100)).len(), 2 + USERNAME_LETTERS_MAX);
    }
}
