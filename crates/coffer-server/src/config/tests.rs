//! Sources over one another, and every option named when it is wrong.

use super::*;

fn variables(list: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let list: Vec<_> = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    list.into_iter()
}

fn load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coffer.toml");
    std::fs::write(&path, file).unwrap();
    let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Config::load(Some(&path), variables(environment), &flags)
}

#[test]
fn flags_go_before_variables_and_variables_before_the_file() {
    let file = "connections_max = 1\nrack = \"file\"\ncluster_name = \"file\"\n";
    let environment = [("COFFER_RACK", "variable"), ("COFFER_CLUSTER_NAME", "variable")];
    let config = load(file, &environment, &[("cluster_name", "flag")]).unwrap();
    assert_eq!(config.limits.connections_max, 1);
    assert_eq!(config.rack, "variable");
    assert_eq!(config.cluster_name, "flag");
    assert_eq!(config.listen, Config::default().listen);
}

#[test]
fn a_wrong_value_is_refused_with_its_name_and_what_is_allowed() {
    for option in OPTIONS {
        let wrong = "\u{1}";
        let result = load("", &[], &[(option.name, wrong)]);
        match result {
            // a path may be anything
            Ok(_) => assert_eq!(option.allowed, "a path", "{}", option.name),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(option.name) && text.contains(option.allowed), "{text}");
            }
        }
    }
}

#[test]
fn an_unknown_option_is_refused_by_name_with_all_options() {
    let text = load("lisen = 1", &[], &[]).unwrap_err().to_string();
    assert!(text.contains("lisen") && text.contains("data_dir"), "{text}");
    let text = load("", &[("COFFER_LISEN", "1")], &[]).unwrap_err().to_string();
    assert!(text.contains("lisen") && text.contains("COFFER_LISEN"), "{text}");
    assert!(load("", &[("COFFER_TEST_X", "1"), ("COFFER_ALLOW_TEST_CLOCK", "1")], &[]).is_ok());
    assert!(load("[listen]", &[], &[]).is_err());
    assert!(load("listen = [1]", &[], &[]).is_err());
    assert!(load("not toml", &[], &[]).is_err());
}

#[test]
fn defaults_in_the_table_are_the_defaults() {
    for option in OPTIONS.iter().filter(|option| !option.default.starts_with('(')) {
        // selects periodic, which is not the default
        if option.name == "sync_interval_millis" {
            continue;
        }
        let config = load("", &[], &[(option.name, option.default)]).unwrap();
        let (set, default) = (format!("{config:?}"), format!("{:?}", Config::default()));
        let is_first_start = ["account", "region"].contains(&option.name);
        assert!(set == default || is_first_start, "{}", option.name);
    }
}

#[test]
fn other_addresses_need_a_word_for_plaintext() {
    let text = load("listen = \"192.0.2.1:9042\"", &[], &[]).unwrap_err().to_string();
    assert!(text.contains("listen") && text.contains("--allow-plaintext"), "{text}");
    let allowed = [("allow_plaintext", "true")];
    assert!(load("listen = \"192.0.2.1:9042\"", &[], &allowed).is_ok());
    let text = load("listen = \"0.0.0.0:9042\"", &[], &allowed).unwrap_err().to_string();
    assert!(text.contains("--advertise"), "{text}");
    assert!(load("listen = \"[::1]:0\"", &[], &[]).is_ok());
}

#[test]
fn byte_counts_take_units_and_hold_at_their_limits() {
    let frame = |text: &str| load("", &[], &[("frame_bytes_max", text)]);
    assert_eq!(frame("64 MiB").unwrap().limits.frame_bytes_max, 64 << 20);
    assert_eq!(frame("4096").unwrap().limits.frame_bytes_max, 4096);
    assert!(frame("4095").is_err());
    assert!(frame("4 MB").is_err());
    assert!(frame("99999999999GiB").is_err());
    // larger than what one connection may have in flight
    assert!(frame("65MiB").is_err());
}

#[test]
fn a_password_in_the_clear_is_refused_without_being_repeated() {
    let text = load("", &[], &[("password_hash", "hunter2")]).unwrap_err().to_string();
    assert!(text.contains("password_hash") && !text.contains("hunter2"), "{text}");
}

#[test]
fn the_operating_manual_has_every_option_as_it_is() {
    let manual = include_str!("../../../../docs/OPERATING.md");
    for option in OPTIONS {
        let line = format!(
            "| `{}` | {} | {} | {} |",
            option.name, option.allowed, option.default, option.help
        );
        assert!(manual.contains(&line), "docs/OPERATING.md lacks: {line}");
    }
    let documented = manual.lines().filter(|line| {
        line.strip_prefix("| `")
            .and_then(|rest| rest.split_once('`'))
            .is_some_and(|(name, _)| !name.contains(' '))
    });
    assert_eq!(documented.count(), OPTIONS.len(), "options that are gone");
}
