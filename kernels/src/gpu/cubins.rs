//! The machine code of the kernels, embedded when the program is built.

/// One file of kernels, compiled for one compute capability.
pub(super) struct Cubin {
    /// Major and minor: 80, 89, or 90 for code that uses what only Hopper has.
    pub capability: u32,
    /// Names of its kernels.
    pub kernels: &'static [&'static str],
    pub image: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/cubins.rs"));

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::ffi::{CStr, c_char};

    unsafe extern "C" {
        fn sconce_emulate_kernels(names: *mut *const c_char, capacity: usize) -> usize;
    }

    fn emulated_kernels() -> BTreeSet<&'static str> {
        let mut names = [std::ptr::null(); 256];
        // SAFETY: at most as many names are written as there is room for.
        let length = unsafe { sconce_emulate_kernels(names.as_mut_ptr(), names.len()) };
        // SAFETY: each name is a string that lives as long as the program.
        names[..length].iter().map(|name| unsafe { CStr::from_ptr(*name) }.to_str().unwrap()).collect()
    }

    #[test]
    fn the_architectures_are_those_of_the_cubins() {
        let built: BTreeSet<String> = CUBINS.iter().map(|cubin| format!("sm_{}", cubin.capability)).collect();
        let named = ARCHITECTURES.iter().map(|name| name.trim_end_matches(char::is_alphabetic).to_owned());
        assert_eq!(named.collect::<BTreeSet<_>>(), built);
    }

    #[test]
    fn every_capability_has_every_kernel_of_the_emulation() {
        let wanted = emulated_kernels();
        assert!(wanted.contains("add_rms_norm"));
        for capability in [80, 89, 90] {
            let mut found = BTreeSet::new();
            for cubin in CUBINS.iter().filter(|cubin| cubin.capability == capability) {
                for &kernel in cubin.kernels {
                    // The code of a kernel is a section of the cubin, which is an ELF file.
                    let section = format!(".text.{kernel}\0");
                    let has_code = cubin.image.windows(section.len()).any(|bytes| bytes == section.as_bytes());
                    assert!(has_code, "{kernel} has no code for {capability}");
                    assert!(found.insert(kernel), "two kernels are called {kernel}");
                }
            }
            assert_eq!(found, wanted, "kernels for {capability}");
        }
    }
}
