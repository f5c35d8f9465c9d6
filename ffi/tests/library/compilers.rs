//! The C and C++ compilers of this machine.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::place;
use crate::place::has_for;
use crate::place::run;

pub(crate) const C_STANDARDS: [&str; 3] = ["c99", "c11", "c17"];
pub(crate) const CPP_STANDARDS: [&str; 4] = ["c++11", "c++14", "c++17", "c++20"];
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Cpp,
}

/// An installed compiler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compiler {
    pub(crate) program: &'static str,
    pub(crate) language: Language,
}

/// All of them; GCC is required, Clang is used where it is installed.
pub(crate) fn compilers() -> Vec<Compiler> {
    let known = [
        ("gcc", Language::C),
        ("clang", Language::C),
        ("g++", Language::Cpp),
        ("clang++", Language::Cpp),
    ];
    let name = "the header under a compiler";
    let installed = known
        .into_iter()
        .filter(|(program, _)| has_for(name, program));
    let installed: Vec<_> = installed
        .map(|(program, language)| Compiler { program, language })
        .collect();
    for language in [Language::C, Language::Cpp] {
        assert!(
            installed
                .iter()
                .any(|compiler| compiler.language == language),
            "no compiler for {language:?} is installed"
        );
    }
    installed
}

/// The compiler that programs are built with.
pub(crate) fn compiler(language: Language) -> Compiler {
    let program = match language {
        Language::C => "gcc",
        Language::Cpp => "g++",
    };
    Compiler { program, language }
}

impl Compiler {
    fn command(self, standard: &str) -> Command {
        let mut command = Command::new(self.program);
        command
            .arg(format!("-std={standard}"))
            .args(WARNINGS)
            .arg("-I")
            .arg(place::workspace().join("include"));
        command
    }

    /// Compiles a file without keeping the result.
    pub(crate) fn check(self, file: &Path, standard: &str) {
        run(self.command(standard).arg("-fsyntax-only").arg(file));
    }

    /// Builds a program against the shared library.
    pub(crate) fn build(self, file: &Path, options: &[&str], into: &Path) -> PathBuf {
        let standard = match self.language {
            Language::C => "c99",
            Language::Cpp => "c++17",
        };
        let library = &place::library().shared;
        let program = into.join(file.file_stem().unwrap());
        let mut command = self.command(standard);
        command
            .args(["-g", "-O1", "-pthread"])
            .args(options)
            .arg(file);
        command.arg("-o").arg(&program);
        command.arg("-L").arg(library).arg("-lquorate");
        command.arg(format!("-Wl,-rpath,{}", library.display()));
        run(&mut command);
        program
    }
}
