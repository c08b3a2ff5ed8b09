//! docs/recipes/lab.md, by a class of three.

use std::time::Duration;

use super::{Recipe, stop};
use crate::harness::{TestServer, poll_until};

#[tokio::test]
async fn a_class_keeps_its_work_and_an_exam_begins_afresh() {
    let recipe = Recipe::read("lab");
    let server = TestServer::builder().recipe(&recipe).start().await;
    let desk = server.desk("");

    let lesson = desk.run(&recipe.commands("alice")).output().await;
    let exam = desk.run(&recipe.commands("carol")).output().await;
    // Those on their way out count, too.
    poll_until("the exam's machines are gone", Duration::from_mins(1), async || {
        (server.containers().await.len() <= 2).then_some(())
    })
    .await;
    let teacher = desk.run(&recipe.commands("teacher")).output().await;
    let of_others = desk.run("ssh bob@coracle ls").output().await;
    let outward = desk.run("ssh carol@coracle 'cut -d: -f1 /proc/net/dev | tail -n +3'").output().await;
    let copied = desk.run("echo ls | sftp -b - carol@coracle").output().await;

    lesson.assert_success().assert_stdout("python\n42\n");
    exam.assert_success().assert_stdout("exam\nanswer\n0\n");
    teacher.assert_success().assert_stdout("exam\n");
    of_others.assert_success().assert_stdout("");
    assert_eq!(outward.assert_success().stdout().trim(), "lo");
    assert!(copied.stderr().contains("subsystem request failed"), "{}", copied.report());
    poll_until("the kept machines of alice and bob alone", Duration::from_secs(30), async || {
        (server.containers().await.len() == 2).then_some(())
    })
    .await;
    stop(server).await;
}

#[tokio::test]
async fn nobody_collects_machines_in_the_exam() {
    let recipe = Recipe::read("lab");
    let server = TestServer::builder().recipe(&recipe).start().await;
    let desk = server.desk("");
    let mut here = Vec::new();
    for _ in 0..2 {
        let mut machine = desk.run("exec ssh carol@coracle 'echo started; cat'").spawn();
        machine.wait_for("started").await;
        here.push(machine);
    }

    let another = desk.run("ssh carol@coracle true").output().await;

    another.assert_told("you have 2 containers already");
    drop(here);
    server.stop().await;
}
