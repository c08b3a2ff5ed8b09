//! An image registry of our own, open or for members.

use std::process::Stdio;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{
    CreateImageOptions, ListImagesOptions, PushImageOptions, RemoveImageOptions, TagImageOptions,
};
use futures::TryStreamExt as _;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::harness::{DEADLINE, config};
use crate::ports::free_port;

pub(crate) const USERNAME: &str = "joe";
/// Question marks end up as `/` or `_` in base64, depending on its kind.
pub(crate) const PASSWORD: &str = "river?????boat";

const PUSHER: (&str, &str) = ("harbour", "pier-4");

/// These two in bcrypt, the only kind that the registry takes.
const HTPASSWD: &str = "\
harbour:$2y$04$abcdefghijklmnopqrstuump9unzgWtgH.5o8igC42LCbNu.GivoC
joe:$2y$04$abcdefghijklmnopqrstuue35GTlE9d1bWgYHw1tmkHafuSu0dFvO
";

/// A registry on a port of its own. The engine takes plain HTTP from 127.0.0.1.
pub(crate) struct Registry {
    pub(crate) address: String,
    process: Child,
    pub(crate) docker: bollard::Docker,
    pusher: DockerCredentials,
    _folder: TempDir,
}

impl Registry {
    /// One that has `coracle/tiny` as `tiny:v1` and `tiny:latest`.
    pub(crate) async fn start() -> Self {
        Self::with_settings("", DockerCredentials::default()).await
    }

    /// The same for those alone who log in as [`USERNAME`] with [`PASSWORD`].
    pub(crate) async fn for_members() -> Self {
        let auth = "auth: {htpasswd: {realm: members, path: htpasswd}}\n";
        let pusher = DockerCredentials {
            username: Some(PUSHER.0.to_owned()),
            password: Some(PUSHER.1.to_owned()),
            ..Default::default()
        };
        Self::with_settings(auth, pusher).await
    }

    async fn with_settings(settings: &str, pusher: DockerCredentials) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = format!("127.0.0.1:{}", free_port());
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n{settings}",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("config.yml"), settings).expect("a file");
        std::fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("a file");
        let process = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry, from the Debian package of that name");
        let docker = bollard::Docker::connect_with_unix(
            &config("").host.to_string(),
            60,
            bollard::API_DEFAULT_VERSION,
        )
        .expect("a client")
        .negotiate_version()
        .await
        .expect("an engine");
        let registry = Self { address, process, docker, pusher, _folder: folder };
        let listening = async {
            while TcpStream::connect(&registry.address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE / 4, listening).await.expect("a registry");
        registry.push("v1").await;
        registry.push("latest").await;
        registry.forget().await;
        registry
    }

    pub(crate) fn image(&self, suffix: &str) -> String {
        format!("{}/tiny{suffix}", self.address)
    }

    pub(crate) async fn push(&self, tag: &str) {
        let options = TagImageOptions { repo: Some(self.image("")), tag: Some(tag.to_owned()) };
        self.docker.tag_image("coracle/tiny:latest", Some(options)).await.expect("a tag");
        let options = PushImageOptions { tag: Some(tag.to_owned()), ..Default::default() };
        let pushed = self.docker.push_image(&self.image(""), Some(options), Some(self.pusher.clone()));
        pushed.try_collect::<Vec<_>>().await.expect("a push");
    }

    /// An image of a few megabytes that nobody has: it is pushed, and taken off the engine.
    pub(crate) async fn push_noise(&self, tag: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let (noise, archive) = (folder.path().join("noise"), folder.path().join("noise.tar"));
        std::fs::write(&noise, rand::random_iter::<u8>().take(8 << 20).collect::<Vec<_>>()).expect("a file");
        let run = async |program: &str, args: &[&std::ffi::OsStr]| {
            let status = Command::new(program).args(args).stdout(Stdio::null()).status().await;
            assert!(status.expect(program).success(), "{program}");
        };
        let (folder, archive) = (folder.path().as_os_str(), archive.as_os_str());
        run("tar", &["-C".as_ref(), folder, "-cf".as_ref(), archive, "noise".as_ref()]).await;
        let image = self.image(&format!(":{tag}"));
        run("docker", &["import".as_ref(), archive, image.as_ref()]).await;
        let options = PushImageOptions { tag: Some(tag.to_owned()), ..Default::default() };
        let pushed = self.docker.push_image(&self.image(""), Some(options), Some(self.pusher.clone()));
        pushed.try_collect::<Vec<_>>().await.expect("a push");
        self.forget().await;
    }

    /// Pulls as anybody might.
    pub(crate) async fn fetch(&self, tag: &str) {
        let options = CreateImageOptions {
            from_image: Some(self.image("")),
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        self.docker.create_image(Some(options), None, None).try_collect::<Vec<_>>().await.expect("a pull");
    }

    /// Takes what came from here off the engine.
    pub(crate) async fn forget(&self) {
        let images = self.docker.list_images(None::<ListImagesOptions>).await.expect("a list");
        let tags = images.into_iter().flat_map(|image| image.repo_tags.into_iter().chain(image.repo_digests));
        for tag in tags.filter(|tag| tag.starts_with(&self.address)) {
            // Removing the last tag takes the digests along.
            drop(self.docker.remove_image(&tag, None::<RemoveImageOptions>, None).await);
        }
    }

    pub(crate) async fn digest(&self) -> String {
        self.fetch("v1").await;
        let image = self.docker.inspect_image(&self.image(":v1")).await.expect("an image");
        let digests = image.repo_digests.unwrap_or_default();
        let digest = digests.into_iter().find(|digest| digest.starts_with(&self.address)).expect("a digest");
        self.forget().await;
        digest
    }

    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.expect("to kill the registry");
    }
}
