//! docs/recipes/sshfs.md, with the real sshfs.

use super::{Recipe, serve, stop};
use crate::harness::{Desk, MIB, Sshd, Target, noise};

/// A mount that goes with its test.
struct Mount<'t> {
    desk: Desk<'t>,
    recipe: Recipe,
}

impl<'t> Mount<'t> {
    async fn of(target: &'t Target) -> Self {
        let (recipe, desk) = (Recipe::read("sshfs"), target.desk(""));
        desk.run(&recipe.commands("mount")).output().await.assert_success();
        Self { desk, recipe }
    }

    /// A shell's business, since whoever asks a mount that is dead waits for good: shells have a time-out.
    async fn sh(&self, script: &str) -> String {
        self.desk.run(script).output().await.assert_success().stdout()
    }

    async fn close(self) {
        self.sh(&self.recipe.commands("unmount")).await;
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Unmounted already is as good.
        let unmount = std::process::Command::new("fusermount3")
            .args(["-u", "-z", "-q"])
            .arg(self.desk.path("box"))
            .output();
        drop(unmount);
    }
}

async fn a_mounted_folder_is_a_folder(target: &Target) {
    let mount = Mount::of(target).await;
    mount.desk.write("noise", noise(4 * MIB));

    mount.sh("cp noise box/noise; cmp noise box/noise; test $(stat -c %s box/noise) = 4194304").await;
    mount
        .sh("mkdir -p box/a/b; echo one >box/a/b/file; mv box/a/b/file box/a/other; ln -s other box/a/link")
        .await;
    mount.sh("echo two >box/a/new; mv box/a/new box/a/other; chmod 640 box/a/other; touch -d @1000000000 box/a/other").await;
    mount.sh("head -c 100 noise >box/a/short; truncate -s 10 box/a/short; echo more >>box/a/short; rmdir box/a/b").await;
    mount.sh("mkdir tree; for i in $(seq 60); do echo $i >tree/$i; done; cp -r tree box/tree; diff -r tree box/tree").await;
    let seen =
        mount.sh("cat box/a/link; stat -c '%a %Y' box/a/other; df --output=fstype box | tail -1").await;
    let there = target
        .ssh(&["cat a/other; stat -c '%a %Y' a/other; stat -c %s a/short; ls tree | wc -l; ls a"])
        .output()
        .await;

    assert_eq!(seen, "two\n640 1000000000\nfuse.sshfs\n");
    there.assert_success().assert_stdout("two\n640 1000000000\n15\n60\nlink\nother\nshort\n");
    mount.close().await;
    target.seen("sshfs", "mounting");
}

/// F9
#[tokio::test]
async fn a_mounted_folder_is_a_folder_of_the_container() {
    let server = serve(&Recipe::read("sshfs")).await;
    a_mounted_folder_is_a_folder(&server).await;
    stop(server).await;
}

/// F9
#[tokio::test]
async fn a_mounted_folder_is_a_folder_at_the_oracle() {
    let sshd = Sshd::start().await;
    a_mounted_folder_is_a_folder(&sshd).await;
    sshd.stop().await;
}

async fn a_mount_comes_back(target: &Target) {
    let mount = Mount::of(target).await;
    mount.sh("echo kept >box/file").await;

    // The ssh under this sshfs: nobody else's command line has this test's folder in it, and the brackets leave out the
    // shell that says this.
    mount.sh("pkill -KILL -f \"[s]sh -F $HOME/ssh_config .* coracle sftp\"").await;

    let after = mount
        .sh("until cat box/file 2>/dev/null; do sleep 0.1; done; echo more >>box/file; cat box/file")
        .await;
    assert_eq!(after, "kept\nkept\nmore\n");
    mount.close().await;
    target.seen("sshfs", "reconnecting");
}

/// F9
#[tokio::test]
async fn a_mount_comes_back_to_the_same_container() {
    let server = serve(&Recipe::read("sshfs")).await;
    a_mount_comes_back(&server).await;
    stop(server).await;
}

/// F9
#[tokio::test]
async fn a_mount_comes_back_at_the_oracle() {
    let sshd = Sshd::start().await;
    a_mount_comes_back(&sshd).await;
    sshd.stop().await;
}
