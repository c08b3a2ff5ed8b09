//! What is to be in a container besides a program: made right before it starts, and told to it by variables.

use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::Client;
use crate::engine::Container;

/// Makes what is to be there.
#[async_trait]
pub trait Provision: Send + Sync {
    /// Makes it, as far as that can be done; within a deadline of its own. Cancel safe.
    async fn provide(&self, container: &Arc<dyn Container>) -> Provided;
}

/// What was made.
#[derive(Debug, Default)]
pub struct Provided {
    env: Vec<(String, String)>,
    lacking: Vec<String>,
}

impl Provided {
    /// Tells programs by a variable. It holds whatever the client has set.
    pub fn set(&mut self, name: &str, value: String) {
        self.env.push((name.to_owned(), value));
    }

    /// Something could not be made. The program runs without; a person at a terminal is told.
    pub fn lacks(&mut self, what: &str, why: &dyn Display) {
        let line = format!("{what}: {why}");
        self.lacking.push(line.chars().filter(|letter| !letter.is_control()).collect());
    }

    /// Puts them among a program's variables.
    pub fn add_to(self, env: &mut Vec<(String, String)>) {
        env.retain(|(name, _)| !self.env.iter().any(|(ours, _)| ours == name));
        env.extend(self.env);
    }

    pub(super) async fn show(&self, client: &dyn Client) {
        for line in &self.lacking {
            // Whoever has gone is noticed by what comes next.
            drop(client.stderr(Bytes::from(format!("\rcoracle: {line}\r\n"))).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_provided_holds_whatever_the_client_has_set() {
        let mut provided = Provided::default();
        provided.set("SSH_AUTH_SOCK", "/ours".to_owned());
        let mut env =
            vec![("A".to_owned(), "1".to_owned()), ("SSH_AUTH_SOCK".to_owned(), "/theirs".to_owned())];

        provided.add_to(&mut env);

        let expected = [("A", "1"), ("SSH_AUTH_SOCK", "/ours")];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
