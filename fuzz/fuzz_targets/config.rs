//! The configuration: no bytes may crash us, and what is accepted can be laid under a configuration hook's answer.
#![no_main]

use std::path::Path;

use coracle::config;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    match config::parse(bytes, Path::new("config.yaml")) {
        Ok((config, source)) => {
            drop(config.warnings());
            let profile = source.overlaid(None, json!({})).expect("nothing is laid over it");
            assert_eq!(profile.docker.config, config.docker.config);
        }
        // What is wrong is shown with a piece of the file.
        Err(error) => assert!(error.to_string().starts_with("config.yaml")),
    }
});
