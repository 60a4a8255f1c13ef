//! Each formula against values worked out by hand or by its definition.

use crate::spec::PipelineSpec;
use crate::window::{Window, WindowShape};

use super::Extractor;

/// Features of the last window of `column`, sampled at 10 Hz, on one channel.
fn features(length: usize, groups: &str, column: &[f32]) -> Vec<f32> {
    let toml = format!(
        r#"
        window = {{ length = {length}, stride = 1 }}
        score = {{ kind = "output", index = 0 }}
        verdict = {{ threshold = 1.0, k = 1, n = 1, clear_ratio = 1.0 }}
        [schema]
        period_ms = 100.0
        channels = [{{ name = "x", unit = "g", min = -1e9, max = 1e9 }}]
        {groups}
        "#
    );
    extract(&toml, column, 1)
}

fn extract(toml: &str, rows: &[f32], channels: usize) -> Vec<f32> {
    let spec: PipelineSpec = toml::from_str(toml).unwrap();
    spec.check().unwrap();
    let mut shape = WindowShape::new(&spec.window, channels);
    let mut extractor = Extractor::new(&spec, &mut shape);
    let mut window = Window::new(&shape);
    for row in rows.chunks_exact(channels) {
        window.push(&shape, row);
    }
    let mut out = vec![0.0; extractor.len()];
    extractor.extract(&shape, &window, &mut out);
    out
}

fn check(kind: &str, column: &[f32], expected: &[f64]) {
    let groups = format!("[[features]]\nkind = {kind}");
    let found = features(column.len(), &groups, column);
    assert_eq!(found.len(), expected.len(), "{kind}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < 1e-5, "{kind}: {found}, expected {expected}");
    }
}

#[test]
fn moments_follow_their_formulas() {
    let x = [1.0, 2.0, 3.0, -4.0];
    check("'raw'", &x, &[1.0, 2.0, 3.0, -4.0]);
    check("'mean'", &x, &[0.5]);
    check("'rms'", &x, &[7.5_f64.sqrt()]);
    check("'std'", &x, &[7.25_f64.sqrt()]);
    check("'peak'", &x, &[4.0]);
    check("'crest'", &x, &[4.0 / 7.5_f64.sqrt()]);
    let fourth = (0.5_f64.powi(4) + 1.5_f64.powi(4) + 2.5_f64.powi(4) + 4.5_f64.powi(4)) / 4.0;
    check("'kurtosis'", &x, &[fourth / 7.25_f64.powi(2)]);
}

#[test]
fn slope_is_per_second() {
    // One unit a reading, ten readings a second.
    check("'slope'", &[5.0, 6.0, 7.0, 8.0], &[10.0]);
    check("'slope'", &[5.0], &[0.0]);
}

#[test]
fn ewma_starts_at_the_first_reading() {
    check("'ewma'\nalpha = 0.5", &[4.0, 8.0, 0.0], &[3.0]);
}

#[test]
fn a_constant_signal_has_no_spread_and_divides_by_nothing() {
    let zeros = [0.0; 8];
    check("'crest'", &zeros, &[0.0]);
    check("'kurtosis'", &[5.0; 8], &[0.0]);
    check("'std'", &[1e6; 8], &[0.0]);
}

#[test]
fn a_sine_shows_its_rms_in_its_own_band() {
    // 2 Hz at 10 Hz over 50 readings: bin 10, exactly; amplitude 3.
    let sine: Vec<f32> = (0..50)
        .map(|i| (7.0 + 3.0 * (std::f64::consts::TAU * 0.2 * f64::from(i)).sin()) as f32)
        .collect();
    let rms = 3.0 / 2.0_f64.sqrt();
    check(
        "'bands'\nedges_hz = [0.0, 1.0, 3.0, 5.0]",
        &sine,
        &[0.0, rms, 0.0],
    );
}

#[test]
fn all_bands_together_hold_the_power_of_white_noise() {
    let noise: Vec<f32> = (0..4096_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0)
        .collect();
    let groups = "[[features]]\nkind = 'bands'\nedges_hz = [0.0, 5.0]\n[[features]]\nkind = 'std'";
    let found = features(noise.len(), groups, &noise);
    assert!((found[0] / found[1] - 1.0).abs() < 0.05, "{found:?}");
}

#[test]
fn sums_survive_a_long_run_at_a_large_offset() {
    // Ten thousand readings around 1e4 through a window of 16.
    let column: Vec<f32> = (0..10_000_u32).map(|i| 10_000.0 + (i % 4) as f32).collect();
    let found = features(16, "[[features]]\nkind = 'std'", &column);
    assert!((f64::from(found[0]) - 1.25_f64.sqrt()).abs() < 1e-6);
}

#[test]
fn channels_are_picked_normalised_and_clipped() {
    let toml = r#"
        window = { length = 2, stride = 1 }
        score = { kind = "output", index = 0 }
        verdict = { threshold = 1.0, k = 1, n = 1, clear_ratio = 1.0 }
        [schema]
        period_ms = 100.0
        channels = [
            { name = "a", unit = "g", min = -1e9, max = 1e9 },
            { name = "b", unit = "g", min = -1e9, max = 1e9 },
        ]
        [[features]]
        kind = "raw"
        channels = ["b", "a"]
        center = [10.0, 0.0]
        scale = [2.0, 0.5]
        clip = 5.0
        [[features]]
        kind = "bands"
        edges_hz = [0.0, 2.0, 5.0]
        center = [-1.0, -2.0]
    "#;
    let found = extract(toml, &[1.0, 12.0, 3.0, 14.0], 2);
    assert_eq!(found[..4], [1.0, 2.0, 2.0, 5.0]);
    // Hann over two readings weights only the second, by 1: the values less
    // the mean are ±1, so each of the two bins holds 1² / (2·1) = 0.5.
    let rms = 0.5_f32.sqrt();
    for (found, expected) in found[4..]
        .iter()
        .zip([rms + 1.0, rms + 1.0, rms + 2.0, rms + 2.0])
    {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}
