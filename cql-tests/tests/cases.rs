//! Every script of `cases/` gets the answers in its `.expected` file. `UPDATE_EXPECTED=1` rewrites them.

use std::{fs, path::PathBuf};

use cql_tests::{Result, Script, Server, run_script};

#[test]
fn every_script_gets_its_expected_answers() -> Result<()> {
    let server = Server::start()?;
    let mut wrong = Vec::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cql"));
    paths.sort();
    assert!(paths.len() > 10, "the scripts were not found");
    for path in paths {
        let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a script has no name")?;
        let text =
            run_script(server.address(), &Script::parse(name, &fs::read_to_string(&path)?))?.text();
        let expected = path.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &text)?;
        } else if fs::read_to_string(&expected)? != text {
            let got = path.with_extension("got");
            fs::write(&got, &text)?;
            wrong.push(format!("{} differs from {}", got.display(), expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
