//! The init for each architecture, as it is delivered.

/// An architecture that there is an init for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `amd64`
    X86_64,
    /// `arm64`
    Aarch64,
}

const X86_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/coracle-init-x86_64"));
const AARCH64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/coracle-init-aarch64"));

impl Architecture {
    /// From a name as OCI images have it (`GOARCH`), or as kernels do.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "amd64" | "x86_64" => Some(Self::X86_64),
            "arm64" | "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The init; `None` when the server was built on a machine that could not make it.
    #[must_use]
    pub fn binary(self) -> Option<&'static [u8]> {
        let binary = match self {
            Self::X86_64 => X86_64,
            Self::Aarch64 => AARCH64,
        };
        (!binary.is_empty()).then_some(binary)
    }

    /// As in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_a_small_static_program_for_its_architecture() {
        /// `e_machine` of the ELF header.
        const MACHINES: [(Architecture, u8); 2] = [(Architecture::X86_64, 62), (Architecture::Aarch64, 183)];

        for (architecture, machine) in MACHINES {
            let Some(binary) = architecture.binary() else { continue };
            assert!(binary.starts_with(b"\x7fELF\x02\x01"), "{architecture:?}");
            assert_eq!(binary[18], machine);
            assert!(binary.len() < 1 << 20, "{} bytes", binary.len());
            // A dynamic one names its loader.
            assert!(!binary.windows(8).any(|window| window == b"/lib/ld-" || window == b"/lib64/l"));
        }
        assert_eq!(Architecture::from_name("amd64"), Some(Architecture::X86_64));
        assert_eq!(Architecture::from_name("riscv64"), None);
    }
}
