//! The files behind the judge.

use super::*;
use crate::auth::keygen_tests::{Keygen, here_and_now};

const ALICE: &[&str] = &["-I", "laptop", "-n", "alice,admins", "-z", "42"];

struct Setup {
    keygen: Keygen,
    certificate: Certificate,
}

impl Setup {
    fn new() -> Self {
        let keygen = Keygen::new();
        keygen.key("ca", "ed25519", 0);
        keygen.key("user", "ed25519", 0);
        let certificate = keygen.sign("ca", "user", ALICE);
        Self { keygen, certificate }
    }

    fn trusting(&self) -> CertificatesConfig {
        CertificatesConfig { trusted_cas: vec![self.keygen.path("ca.pub")], ..CertificatesConfig::default() }
    }

    fn authorities(&self, config: CertificatesConfig) -> Authorities {
        let file = self.keygen.path("keys-of-%u").display().to_string().parse().ok();
        let revoked = Arc::new(RevokedKeys::new(config.revoked_keys.clone()));
        Authorities::new(config, Arc::new(AuthorizedKeys::new(file)), revoked)
    }

    async fn judge(
        &self,
        authorities: &Authorities,
        username: &str,
        account: Account<'_>,
    ) -> Result<CertificateGrant, String> {
        let username = Username::parse(username).unwrap();
        let outcome = authorities.judge(&username, &self.certificate, account, here_and_now()).await;
        outcome.map_err(|denied| denied.to_string())
    }
}

/// A4
#[tokio::test]
async fn a_trusted_authority_vouches_for_users_by_their_names() {
    let setup = Setup::new();
    let authorities = setup.authorities(setup.trusting());

    let alice = setup.judge(&authorities, "alice", Account::default()).await;
    let bob = setup.judge(&authorities, "bob", Account::default()).await;

    assert_eq!(alice.unwrap().principal, "alice");
    assert!(bob.unwrap_err().starts_with("none of its principals (`alice`, `admins`)"));
    setup.keygen.write("ca.pub", format!("no-pty {}", setup.keygen.text("ca.pub")));
    assert!(
        setup.judge(&authorities, "alice", Account::default()).await.is_err(),
        "options are not for this file"
    );
}

/// A4
#[tokio::test]
async fn a_file_of_principals_says_which_names_count() {
    let setup = Setup::new();
    let principals_file = setup.keygen.path("principals-of-%u").display().to_string().parse().ok();
    let authorities = setup.authorities(CertificatesConfig { principals_file, ..setup.trusting() });
    setup.keygen.write(
        "principals-of-bob",
        "# ours\n\nsomebody\nno-ptty admins # wrong\ncert-authority admins\nno-pty,command=\"a b\"\t admins # right\nalice\n",
    );
    setup.keygen.write("principals-of-carol", "somebody\n");

    let bob = setup.judge(&authorities, "bob", Account::default()).await.unwrap();
    let carol = setup.judge(&authorities, "carol", Account::default()).await.unwrap_err();
    let alice = setup.judge(&authorities, "alice", Account::default()).await.unwrap_err();
    let climber = setup.judge(&authorities, "../bob", Account::default()).await.unwrap_err();

    assert_eq!(bob.principal, "admins");
    assert!(bob.restrictions.no_terminal);
    assert_eq!(bob.restrictions.force_command.as_deref(), Some("a b"));
    assert!(carol.contains("principals-of-carol"), "{carol}");
    assert!(alice.contains("principals-of-alice"), "the name alone is not enough: {alice}");
    assert!(climber.contains("no file of principals"), "{climber}");
}

/// A4
#[tokio::test]
async fn a_users_own_list_of_principals_counts_instead() {
    let setup = Setup::new();
    let authorities = setup.authorities(setup.trusting());
    let admins = ["admins".to_owned()];
    let account = |principals| Account { principals: Some(principals), ..Account::default() };

    assert!(setup.judge(&authorities, "bob", account(&admins)).await.is_ok());
    assert!(setup.judge(&authorities, "alice", account(&[])).await.is_err());
}

/// A4
#[tokio::test]
async fn an_authority_in_a_users_keys_vouches_for_that_user() {
    let setup = Setup::new();
    let authorities = setup.authorities(CertificatesConfig::default());
    let ca = setup.keygen.text("ca.pub");
    setup.keygen.write("keys-of-bob", format!("cert-authority,principals=\"admins\",no-pty {ca}"));
    setup.keygen.write("keys-of-alice", &ca);
    let inline = [format!("cert-authority {}", ca.trim()).parse().unwrap()];
    let account = Account { authorized_keys: &inline, principals: None };
    let [alice, bob] = ["alice", "bob"].map(|name| Username::parse(name).unwrap());

    let granted = setup.judge(&authorities, "bob", Account::default()).await.unwrap();

    assert!(granted.restrictions.no_terminal);
    assert!(granted.place.ends_with("keys-of-bob:1"), "{}", granted.place);
    assert!(
        setup.judge(&authorities, "alice", Account::default()).await.is_err(),
        "a plain key is no authority"
    );
    assert!(setup.judge(&authorities, "alice", account).await.is_ok());
    assert!(authorities.may_vouch_for(&bob, Account::default()).await);
    assert!(!authorities.may_vouch_for(&alice, Account::default()).await);
    assert!(authorities.may_vouch_for(&alice, account).await);
}

/// A4
#[tokio::test]
async fn what_is_revoked_stays_out_from_the_next_attempt_on() {
    let setup = Setup::new();
    let revoked = setup.keygen.write("revoked", "");
    let authorities =
        setup.authorities(CertificatesConfig { revoked_keys: Some(revoked), ..setup.trusting() });

    assert!(setup.judge(&authorities, "alice", Account::default()).await.is_ok());
    setup.keygen.write("revoked", "serial: 42");
    let serial = setup.judge(&authorities, "alice", Account::default()).await.unwrap_err();
    setup.keygen.write("revoked", setup.keygen.text("ca.pub"));
    let authority = setup.judge(&authorities, "alice", Account::default()).await.unwrap_err();
    setup.keygen.write("revoked", "nonsense");
    let nothing_counts = setup.judge(&authorities, "alice", Account::default()).await.unwrap_err();

    assert_eq!(serial, "the certificate's serial number 42 is revoked");
    assert!(authority.starts_with("its authority's key SHA256:"), "{authority}");
    assert!(nothing_counts.contains("line 1: expected a public key"), "{nothing_counts}");
}

#[tokio::test]
async fn a_name_that_is_empty_is_no_principal() {
    let look = find_principals("\n# comment\n", &[String::new()]);

    assert_eq!(look, Look { found: vec![], passed_over: vec![] });
}
