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
    // a path may be anything
    for option in OPTIONS.iter().filter(|option| option.allowed != "a path") {
        let wrong = "\u{1}";
        let result = load("", &[], &[(option.name, wrong)]);
        let text = result.unwrap_err().to_string();
        assert!(text.contains(option.name) && text.contains(option.allowed), "{text}");
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
    let options = manual.split("\n## ").find(|part| part.starts_with("Options\n")).unwrap();
    let documented = options.lines().filter(|line| {
        line.strip_prefix("| `")
            .and_then(|rest| rest.split_once('`'))
            .is_some_and(|(name, _)| !name.contains(' '))
    });
    assert_eq!(documented.count(), OPTIONS.len(), "options that are gone");
}

#[test]
fn certificates_and_their_keys_come_in_pairs_and_make_other_addresses_possible() {
    for (flags, wanted) in [
        (&[("tls_cert", "c")][..], "tls_key"),
        (&[("tls_key", "k")], "tls_cert"),
        (&[("tls_client_ca", "a")], "tls_cert"),
        (&[("kms_tls_cert", "c")], "kms_tls_key"),
        (&[("kms_tls_key", "k")], "kms_tls_cert"),
        (&[("kms_listen", "192.0.2.1:1")], "kms-tls-cert"),
    ] {
        let text = load("", &[], flags).unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
    }
    let both = [("tls_cert", "c"), ("tls_key", "k")];
    let far = "listen = \"192.0.2.1:9042\"\nkms_listen = \"192.0.2.1:1\"";
    assert!(load(far, &[], &both).is_ok());
}

#[test]
fn providers_are_read_from_the_file_and_wrong_ones_refused_by_name() {
    let file = |lines: &str| format!("[[kms_provider]]\n{lines}\n");
    let right = "kind = \"aws\"\nregion = \"eu-west-1\"\naccount = \"111122223333\"\n\
                 endpoint = \"http://127.0.0.1:1\"\ndata_role_arn = \"arn:aws:iam::1:role/d\"";
    let two = file(right) + &file("kind = \"aws\"\nregion = \"us-east-2\"");
    let config = load(&two, &[], &[]).unwrap();
    let KmsProviderOptions::Aws(first) = &config.kms_providers[0];
    assert_eq!(
        (first.client.region.as_str(), first.account.as_deref()),
        ("eu-west-1", Some("111122223333"))
    );
    assert_eq!(first.client.data_role_arn.as_deref(), Some("arn:aws:iam::1:role/d"));
    assert_eq!(config.kms_providers.len(), 2);
    for (wrong, wanted) in [
        (file("region = \"r\""), "kind"),
        (file("kind = \"aws\""), "region"),
        (file("kind = \"gcp\"\nregion = \"r\""), "gcp"),
        (file(&right.replace("1111", "x")), "12 digits"),
        (file(&right.replace("http:", "ftp:")), "https://"),
        (file(&right.replace(":role/", ":user/")), "data_role_arn"),
        (file("kind = \"aws\"\nregion = 5"), "region"),
        (file("kind = \"aws\"\nregion = \"r\"\nsecret = \"s\""), "secret"),
        ("kms_provider = \"aws\"".to_owned(), "array"),
    ] {
        let text = load(&wrong, &[], &[]).unwrap_err().to_string();
        assert!(text.contains(wanted) && text.contains("kms_provider"), "{wrong}: {text}");
    }
}

#[test]
fn key_patterns_are_arns_with_stars() {
    let patterns = |text: &str| load("", &[], &[("allowed_kms_keys", text)]);
    let two = patterns("arn:aws:kms:eu-*, arn:aws:kms:*:111122223333:key/*").unwrap();
    assert_eq!(two.allowed_kms_keys.len(), 2);
    assert!(patterns("alias/x").is_err());
    assert!(patterns("").is_err());
}

#[test]
fn roles_stand_for_principals_of_the_kms() {
    let file = "[role_principals]\nann = \"arn:aws:iam::111122223333:user/ann\"\n";
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(config.role_principals["ann"], "arn:aws:iam::111122223333:user/ann");
    for wrong in
        ["[role_principals]\nann = \"ann\"", "[role_principals]\nann = 5", "role_principals = 5"]
    {
        let text = load(wrong, &[], &[]).unwrap_err().to_string();
        assert!(text.contains("role_principals"), "{text}");
    }
}

#[test]
fn channels_are_read_from_the_file_and_wrong_ones_refused_by_name() {
    let all = "[notify.webhook]\nurl = \"https://a.example\"\nsecret_file = \"s\"\n\
               [notify.smtp]\nhost = \"m\"\nport = 2525\nsecurity = \"tls\"\nfrom = \"a@b.c\"\n\
               to = [\"d@e.f\"]\n[notify.command]\npath = \"/bin/true\"\narguments = [\"x\"]\n\
               timeout_seconds = 7";
    let notify = load(all, &[], &[]).unwrap().notify;
    assert_eq!(notify.webhook.unwrap().url, "https://a.example");
    let smtp = notify.smtp.unwrap();
    assert_eq!((smtp.port, smtp.security), (Some(2525), coffer_notify::SmtpSecurity::Tls));
    assert_eq!(notify.command.unwrap().timeout.as_secs(), 7);
    for (wrong, wanted) in [
        ("[notify.pager]", "pager"),
        ("notify = 5", "no table"),
        ("notify.webhook = 5", "webhook is no table"),
        ("[notify.webhook]\nsecret_file = \"s\"", "url is missing"),
        ("[notify.webhook]\nurl = \"u\"\nformat = \"xml\"", "not document or eventbridge"),
        ("[notify.webhook]\nurl = \"u\"\nsecret = \"s\"", "secret"),
        ("[notify.smtp]\nhost = \"m\"\nfrom = \"a@b.c\"", "to is missing"),
        ("[notify.smtp]\nsecurity = \"ssl\"", "starttls"),
        ("[notify.smtp]\nport = 70000", "port"),
        ("[notify.smtp]\npassword = \"hunter2\"", "password_file"),
        ("[notify.smtp]\nto = \"d@e.f\"", "list"),
        ("[notify.command]\npath = \"/bin/true\"\ntimeout_seconds = 0", "timeout_seconds"),
        ("[notify.command]\narguments = []", "path is missing"),
    ] {
        let text = load(wrong, &[], &[]).unwrap_err().to_string();
        assert!(text.contains(wanted) && text.contains("notify"), "{wrong}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
