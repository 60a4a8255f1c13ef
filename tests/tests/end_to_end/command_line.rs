//! What a person types: exit codes, errors and help.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use hark_tests::hark_command;
use serde_json::Value;

use crate::hark::Site;

#[test]
fn check_lists_every_error_with_its_place_and_the_nearest_key() -> Result<()> {
    let site = Site::new("")?;
    let config = "inherit = \"base.toml\"\n[mqtt]\nhots = \"x\"\nport = 99999\n\
                  [[sources]]\nname = \"a\"\nkind = \"serial\"\nprot = \"/dev/ttyS0\"\n";
    fs::write(site.path().join("bad.toml"), config)?;
    let told = [
        "bad.toml:3:1: mqtt.hots: unknown key `hots` in [mqtt]; did you mean `host`?",
        "bad.toml:4:8: mqtt.port: must be 1 to 65535, found 99999",
        "bad.toml:5:1: sources[0].port: missing",
        "bad.toml:8:1: sources[0].prot: unknown key `prot` in [[sources]] \"a\"; did you mean `port`?",
    ];
    for command in ["check", "run"] {
        let ended = site.finish(&[command, "--config", "bad.toml"])?;
        assert_eq!(ended.status.code(), Some(1));
        for line in told {
            assert!(
                ended.stderr.contains(line),
                "no {line:?} in {}",
                ended.stderr
            );
        }
    }
    let ended = site.finish(&["check", "--config", "bad.toml", "--json"])?;
    assert_eq!(ended.status.code(), Some(1));
    let errors: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!(errors["errors"].as_array().map(Vec::len), Some(told.len()));
    assert_eq!(errors["errors"][0]["line"], 3);
    Ok(())
}

#[test]
fn check_is_content_with_a_good_configuration_and_shows_it() -> Result<()> {
    let site =
        Site::new("[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n")?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.stdout, "no errors\n");
    let ended = site.finish(&["check", "--config", "hark.toml", "--show"])?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("hark.toml:"), "{}", ended.stdout);
    Ok(())
}

#[test]
fn exit_codes_tell_usage_from_failure() -> Result<()> {
    let cases: [(&[&str], i32); 9] = [
        (&["--version"], 0),
        (&["run", "--help"], 0),
        (&[], 2),
        (&["listen"], 2),
        (&["run", "--colour"], 2),
        (&["run", "--for", "3q"], 2),
        (&["run", "--broker", ":1883"], 2),
        (&["run", "--config", "absent.toml"], 1),
        (&["check", "--config", "absent.toml"], 1),
    ];
    let site = Site::new("")?;
    for (args, code) in cases {
        let ended = site.finish(args)?;
        assert_eq!(
            ended.status.code(),
            Some(code),
            "hark {args:?}: {}",
            ended.stderr
        );
        assert_eq!(
            ended.stderr.is_empty(),
            code == 0,
            "hark {args:?}: {}",
            ended.stderr
        );
    }
    Ok(())
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() -> Result<()> {
    let site = Site::new("")?;
    let rows: String = (0..100_000).map(|n| format!("{},0\n", n % 10)).collect();
    fs::write(site.path().join("rec.csv"), format!("level,flow\n{rows}"))?;
    let hark = hark_command()?.get_program().to_owned();
    let output = Command::new("bash")
        .arg("-c")
        .arg("\"$0\" features --model level rec.csv | head -1; echo ${PIPESTATUS[0]}")
        .arg(hark)
        .current_dir(site.path())
        .output()
        .context("starting bash")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "reading,f0\n0\n", "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn features_are_those_of_the_windows() -> Result<()> {
    let site = Site::new("")?;
    fs::write(site.path().join("rec.csv"), "level,flow\n1,0\n2,0\n4.5,0\n")?;
    let ended = site.finish(&["features", "--model", "level", "rec.csv"])?;
    assert_eq!(
        ended.stdout, "reading,f0\n1,1.5\n2,3.25\n",
        "{}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn completions_and_the_manual_page_are_what_they_say() -> Result<()> {
    let site = Site::new("")?;
    for shell in ["bash", "zsh", "fish"] {
        let ended = site.finish(&["completions", shell])?;
        assert!(ended.status.success(), "{shell}: {}", ended.stderr);
        assert!(ended.stdout.contains("simulate"), "{shell}");
    }
    let ended = site.finish(&["man"])?;
    assert!(ended.status.success());
    assert!(ended.stdout.contains(".TH hark 1"), "{}", ended.stdout);
    assert!(ended.stdout.contains("replay"), "{}", ended.stdout);
    Ok(())
}
