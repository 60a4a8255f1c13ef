use super::*;

const BUNDLE: &str = "0123";

fn subject(sha256: &str) -> Subject {
    Subject {
        model: "pump".into(),
        rung: "model".into(),
        bundle: "models/pump".into(),
        sha256: sha256.into(),
    }
}

fn source(name: &str) -> Arc<str> {
    name.into()
}

/// What the next process makes of the model in `folder`, which it begins to load.
fn begin(folder: &Path, sha256: &str) -> Option<Cause> {
    let record = Records::new(folder).begin_load(&subject(sha256));
    record.map(|record| record.cause)
}

#[test]
fn a_model_that_cost_a_reset_is_withheld_until_its_file_changes_or_the_operator_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = Records::new(folder.path());
    assert_eq!(records.begin_load(&subject(BUNDLE)), None);
    records.end_load(BUNDLE);
    records.suspect(&source("line"), &[subject(BUNDLE)]);
    // The reset: nobody ends anything.
    drop(records);
    assert_eq!(begin(folder.path(), BUNDLE), Some(Cause::Hang));
    assert_eq!(begin(folder.path(), BUNDLE), Some(Cause::Hang), "for good");
    assert_eq!(begin(folder.path(), "another file"), None);
    let withheld = withheld_in(folder.path()).unwrap();
    assert_eq!(withheld.len(), 1);
    assert_eq!(withheld[0].subject, subject(BUNDLE));
    release(folder.path(), &withheld[0]).unwrap();
    assert_eq!(begin(folder.path(), BUNDLE), None);
    assert_eq!(withheld_in(folder.path()).unwrap(), []);
}

#[test]
fn an_end_in_order_takes_back_what_cost_no_reset() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = Records::new(folder.path());
    records.begin_load(&subject("being loaded"));
    records.suspect(&source("line"), &[subject(BUNDLE)]);
    records.end();
    assert_eq!(begin(folder.path(), BUNDLE), None);
    let unfinished = folder.path().join("withheld/being loaded.loading");
    assert!(!unfinished.exists());
}

#[test]
fn an_end_in_order_leaves_what_an_earlier_process_wrote() {
    let folder = tempfile::tempdir().unwrap();
    Records::new(folder.path()).suspect(&source("line"), &[subject(BUNDLE)]);
    let mut records = Records::new(folder.path());
    assert!(records.begin_load(&subject(BUNDLE)).is_some());
    records.end();
    assert_eq!(begin(folder.path(), BUNDLE), Some(Cause::Hang));
}

#[test]
fn a_thread_that_comes_back_absolves_its_source_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = Records::new(folder.path());
    for name in ["a", "b"] {
        records.suspect(&source(name), &[subject(BUNDLE)]);
    }
    records.absolve(&source("a"));
    assert_eq!(begin(folder.path(), BUNDLE), Some(Cause::Hang));
    records.absolve(&source("b"));
    assert_eq!(begin(folder.path(), BUNDLE), None);
}

#[test]
fn loads_in_a_row_without_an_end_withhold_a_model() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..UNFINISHED_MAX {
        assert_eq!(begin(folder.path(), BUNDLE), None);
    }
    assert_eq!(begin(folder.path(), BUNDLE), Some(Cause::Load));
    assert_eq!(begin(folder.path(), BUNDLE), Some(Cause::Load), "for good");
    let withheld = withheld_in(folder.path()).unwrap();
    release(folder.path(), &withheld[0]).unwrap();
    assert_eq!(begin(folder.path(), BUNDLE), None, "counted anew");
}

#[test]
fn one_load_with_an_end_begins_the_row_anew() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        for _ in 1..UNFINISHED_MAX {
            assert_eq!(begin(folder.path(), BUNDLE), None);
        }
        let mut records = Records::new(folder.path());
        assert_eq!(records.begin_load(&subject(BUNDLE)), None);
        records.end_load(BUNDLE);
    }
}

#[test]
fn records_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = Records::new(folder.path());
    for n in 0..RECORDS_MAX + 10 {
        records.suspect(&source("line"), &[subject(&n.to_string())]);
    }
    assert_eq!(withheld_in(folder.path()).unwrap().len(), RECORDS_MAX);
}

#[test]
fn a_folder_that_takes_nothing_costs_the_record_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut records = Records::new(file.path());
    assert_eq!(records.begin_load(&subject(BUNDLE)), None);
    records.end_load(BUNDLE);
    records.suspect(&source("line"), &[subject(BUNDLE)]);
    assert!(records.has_failed);
}
