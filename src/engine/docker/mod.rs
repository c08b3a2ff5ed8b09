//! Docker Engine (API 1.41 and up; Podman's socket too) through bollard. The only module that knows bollard.
