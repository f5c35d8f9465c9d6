//! What one command installs is found by strangers: pkg-config, CMake, a C++ program, Python.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::place;
use crate::place::has_for;
use crate::place::run;
use crate::world::World;

/// An installed prefix, made once.
fn prefix() -> &'static Path {
    static INSTALLED: OnceLock<TempDir> = OnceLock::new();
    let dir = INSTALLED.get_or_init(|| {
        let dir = place::scratch();
        let built = place::built();
        let profile = match built.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev".to_owned(),
            profile => profile.to_owned(),
        };
        let mut install = Command::new(place::workspace().join("ffi/install.sh"));
        install.arg("--prefix").arg(dir.path().join("made"));
        install.args(["--profile", &profile]);
        install.env("CARGO_TARGET_DIR", built.parent().unwrap());
        run(&mut install);
        // Nothing in it names the place it was made for.
        std::fs::rename(dir.path().join("made"), dir.path().join("moved")).unwrap();
        dir
    });
    Box::leak(dir.path().join("moved").into_boxed_path())
}

fn example(name: &str) -> PathBuf {
    place::workspace().join("ffi/examples").join(name)
}

fn publishes_and_reads(world: &World, program: &Path) {
    let mut command = world.command(program);
    run(command
        .args(["orders", "20"])
        .env("LD_LIBRARY_PATH", prefix().join("lib")));
}

#[test]
fn a_prefix_has_everything() {
    let files = [
        "lib/libquorate.so",
        "lib/libquorate.so.0",
        "lib/libquorate.a",
        "lib/pkgconfig/quorate.pc",
        "lib/cmake/quorate/quorateConfig.cmake",
        "lib/cmake/quorate/quorateConfigVersion.cmake",
        "include/quorate.h",
        "include/quorate.hpp",
    ];
    for file in files {
        assert!(prefix().join(file).exists(), "{file}");
    }
}

#[test]
fn a_line_with_pkg_config_builds_a_program_that_runs() {
    if !has_for("packaging with pkg-config", "pkg-config") {
        return;
    }
    let (world, dir) = (World::new(), place::scratch());
    let pkg_config = prefix().join("lib/pkgconfig");
    let line = |options: &str, out: &Path| {
        let line = format!(
            "cc -std=c99 -Wall -Wextra -Werror {} $(pkg-config {options} --cflags --libs quorate) -o {}",
            example("publish.c").display(),
            out.display()
        );
        let mut shell = Command::new("sh");
        run(shell
            .args(["-c", &line])
            .env("PKG_CONFIG_PATH", &pkg_config));
    };
    let shared = dir.path().join("shared");
    line("", &shared);
    publishes_and_reads(&world, &shared);
    let needed = run(Command::new("readelf").arg("-d").arg(&shared));
    assert!(
        needed.contains("Shared library: [libquorate.so.0]"),
        "{needed}"
    );
}

#[test]
fn the_archive_links_into_a_program_that_needs_no_library() {
    let (world, dir) = (World::new(), place::scratch());
    let program = dir.path().join("static");
    let mut cc = Command::new("cc");
    cc.arg(example("publish.c"))
        .arg("-I")
        .arg(prefix().join("include"));
    cc.arg(prefix().join("lib/libquorate.a"))
        .args(["-lpthread", "-lm", "-ldl"]);
    run(cc.arg("-o").arg(&program));
    run(world.command(&program).args(["orders", "20"]));
}

#[test]
fn a_cmake_project_finds_the_package() {
    if !has_for("packaging with CMake", "cmake") {
        return;
    }
    let (world, dir) = (World::new(), place::scratch());
    let project = format!(
        "cmake_minimum_required(VERSION 3.13)\nproject(stranger C CXX)\n\
         find_package(quorate 0.1 CONFIG REQUIRED)\n\
         set(CMAKE_CXX_STANDARD 17)\n\
         add_executable(publish \"{c}\")\ntarget_link_libraries(publish quorate::quorate)\n\
         add_executable(publish_static \"{c}\")\n\
         target_link_libraries(publish_static quorate::static)\n\
         add_executable(roundtrip \"{cpp}\")\ntarget_link_libraries(roundtrip quorate::quorate)\n",
        c = example("publish.c").display(),
        cpp = example("roundtrip.cpp").display(),
    );
    std::fs::write(dir.path().join("CMakeLists.txt"), project).unwrap();
    let build = dir.path().join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(dir.path()).arg("-B").arg(&build);
    run(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    for program in ["publish", "publish_static", "roundtrip"] {
        run(world.command(&build.join(program)).args(["orders", "20"]));
    }
}

#[test]
fn python_binds_the_library_with_ctypes() {
    if !has_for("binding with Python", "python3") {
        return;
    }
    let world = World::new();
    let mut python = world.command("python3".as_ref());
    python.arg(example("publish.py")).args(["orders", "200"]);
    let library = prefix().join("lib/libquorate.so.0");
    let told = run(python.env("QUORATE_LIBRARY", library));
    let (acked, described) = told.split_once('\n').unwrap();
    assert_eq!(acked, "acked 200");
    let described: serde_json::Value = serde_json::from_str(described).unwrap();
    assert_eq!(described["records"], 200);
}
