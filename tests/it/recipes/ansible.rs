//! docs/recipes/ansible.md, with the real Ansible.

use std::time::Duration;

use super::{Recipe, TestServer, WORKBENCH, serve, stop};
use crate::harness::{Client, Desk, MIB, Output, Sshd, Target, noise, sha256};

/// A play takes seconds, on a busy machine many.
const PLAY: Duration = Duration::from_mins(2);
/// Ends the connections that Ansible keeps.
const HANG_UP: &str =
    "for socket in ~/.ansible/cp/*; do ssh -o ControlPath=\"$socket\" -O exit coracle; done\n";

fn furnish<'t>(target: &'t Target, recipe: &Recipe) -> Desk<'t> {
    let desk = target.desk("");
    for file in ["inventory.ini", "ansible.cfg", "playbook.yaml"] {
        desk.write(file, recipe.block(file));
    }
    desk.write("data", noise(MIB));
    desk.write("greeting.j2", "Hello from {{ inventory_hostname }}: {{ ansible_facts.system }}\n");
    desk
}

fn play(desk: &Desk<'_>, script: &str) -> Client {
    desk.run(&format!("{script}{HANG_UP}")).env("ANSIBLE_NOCOLOR", "1").timeout(PLAY)
}

#[track_caller]
fn assert_changed(output: &Output, count: usize) {
    let text = output.assert_success().stdout();
    let recap = text.lines().find(|line| line.starts_with("coracle") && line.contains("changed="));
    let said =
        recap.is_some_and(|line| line.contains(&format!("changed={count} ")) && line.contains("failed=0"));
    assert!(said, "changed={count} was due\n{}", output.report());
}

async fn a_play_finds_what_the_last_one_did(target: &Target) {
    let recipe = Recipe::read("ansible");
    let desk = furnish(target, &recipe);

    let first = play(&desk, &recipe.commands("client")).output().await;
    let second = play(&desk, &recipe.commands("client")).output().await;

    assert!(first.stdout().contains(r#""ping": "pong""#), "{}", first.report());
    assert_changed(&first, 5);
    assert_changed(&second, 0);
    let there =
        target.ssh(&["cd /srv/site && sha256sum data && stat -c %a data && cat sum greeting"]).output().await;
    let sum = format!("{}  ", sha256(&noise(MIB)));
    let expected = format!("{sum}data\n640\n{sum}/srv/site/dataHello from coracle: Linux\n");
    there.assert_success().assert_stdout(&expected);
    target.seen("Ansible", "playbooks");
}

/// F9
#[tokio::test]
async fn a_play_finds_what_the_last_one_did_in_a_persistent_container() {
    let server = serve(&Recipe::read("ansible")).await;
    a_play_finds_what_the_last_one_did(&server).await;
    stop(server).await;
}

/// F9
#[tokio::test]
async fn a_play_finds_what_the_last_one_did_at_the_oracle() {
    let sshd = Sshd::start_at_workbench(&[]).await;
    a_play_finds_what_the_last_one_did(&sshd).await;
    sshd.stop().await;
}

/// F9. In the mode `connection`: each run has a container for its length, since it keeps its connection.
#[tokio::test]
async fn every_way_to_transfer_files_works() {
    let server = TestServer::builder().image(WORKBENCH).start().await;
    let desk = furnish(&server, &Recipe::read("ansible"));

    for settings in [
        "ANSIBLE_SSH_TRANSFER_METHOD=sftp ANSIBLE_PIPELINING=False",
        "ANSIBLE_SSH_TRANSFER_METHOD=sftp ANSIBLE_PIPELINING=True",
        "ANSIBLE_SSH_TRANSFER_METHOD=scp ANSIBLE_PIPELINING=False",
        "ANSIBLE_SSH_TRANSFER_METHOD=scp ANSIBLE_SCP_EXTRA_ARGS=-O ANSIBLE_PIPELINING=False",
        "ANSIBLE_SSH_TRANSFER_METHOD=piped ANSIBLE_PIPELINING=True",
    ] {
        let script = format!("{settings} ansible boxes -m copy -a 'src=data dest=/srv/data'\n");
        let output = play(&desk, &script).output().await;

        let sum = format!("\"size\": {MIB},");
        let text = output.assert_success().stdout();
        assert!(text.starts_with("coracle | CHANGED") && text.contains(&sum), "{}", output.report());
    }

    server.seen("Ansible", "all its transfer methods");
    server.stop().await;
}
