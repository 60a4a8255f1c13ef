//! A centrifugal pump, the pipe it feeds, and what it needs at its inlet.
//!
//! - Affinity laws: with ν = n/n_rated, flow ∝ ν, head ∝ ν², power ∝ ν³. Applied to the curves at
//!   rated speed: H(Q) = H₀·ν² − k·Q² and P(Q) = P₀·ν³ + c·ν²·Q (J. F. Gülich, "Centrifugal
//!   Pumps", 3rd ed., ch. 3 and 4).
//! - System curve: H = H_static + (r_pipe + r_valve/f²)·Q², with f the valve's opening. Where the
//!   two curves cross: Q = √((H₀·ν² − H_static) / (k + r_pipe + r_valve/f²)).
//! - Pressure at the discharge: ρ·g·H. Hydraulic power: ρ·g·Q·H; its ratio to P is the
//!   efficiency, 62 % at best.
//! - Cavitation: NPSH available is (p_atm − p_vapour)/ρg less the suction line's loss ∝ Q²; NPSH
//!   required grows with Q². Bubbles appear while available is still twice the required, long
//!   before the 3 % head drop that defines "required" (Gülich, ch. 6; margins: ANSI/HI 9.6.1).
//!
//! Flow is in l/min and head in m of water throughout.

/// Flow at the best efficiency point at rated speed, l/min: 12 m³/h.
pub const FLOW_BEST_LPM: f64 = 200.0;
/// Head at shut-off and rated speed, m.
pub const HEAD_SHUT_OFF_M: f64 = 42.0;
/// Fall of the pump's curve, m/(l/min)²: 32 m remain at [`FLOW_BEST_LPM`].
const CURVE: f64 = 2.5e-4;
/// Height that the system lifts the water by, m.
const HEAD_STATIC_M: f64 = 10.0;
/// Resistance of the pipe, m/(l/min)².
const PIPE: f64 = 2.9e-4;
/// Resistance of the open valve, m/(l/min)².
const VALVE: f64 = 1.5e-4;
/// Shaft power at shut-off, W, and its growth with flow, W/(l/min): 1.69 kW at [`FLOW_BEST_LPM`].
const POWER_SHUT_OFF_W: f64 = 750.0;
const POWER_SLOPE: f64 = 4.7;
/// Pressure of 1 m of water, bar: 998 kg/m³ (20 °C) · 9.806 65 m/s².
const BAR_PER_M: f64 = 0.097_87;
/// Available NPSH of cold water without flow, m: atmospheric less vapour pressure, less 2 m of
/// suction lift.
const NPSH_AVAILABLE_M: f64 = 8.1;
const SUCTION_LINE: f64 = 1.0e-5;
const NPSH_REQUIRED_M: f64 = 2.0;
const NPSH_REQUIRED_SLOPE: f64 = 3.0e-5;
/// Vapour pressure of the liquid at severity 1, m: water at 89 °C (IAPWS-IF97: 0.675 bar).
const VAPOUR_MAX_M: f64 = 6.9;

/// Steady flow in l/min, at `speed` of the rated speed and `opening` of the valve.
pub fn flow_lpm(speed: f64, opening: f64) -> f64 {
    let surplus_m = (HEAD_SHUT_OFF_M * speed * speed - HEAD_STATIC_M).max(0.0);
    libm::sqrt(surplus_m / (CURVE + PIPE + VALVE / (opening * opening)))
}

/// Gauge pressure at the discharge in bar, without cavitation.
pub fn pressure_bar(speed: f64, flow_lpm: f64) -> f64 {
    BAR_PER_M * (HEAD_SHUT_OFF_M * speed * speed - CURVE * flow_lpm * flow_lpm).max(0.0)
}

/// Power in W that the shaft must deliver.
pub fn shaft_power_w(speed: f64, flow_lpm: f64) -> f64 {
    speed * speed * (POWER_SHUT_OFF_W * speed + POWER_SLOPE * flow_lpm)
}

/// How far cavitation has developed, 0 (none: NPSH available ≥ twice the required) to 1 (a half
/// of the required), with liquid `hot` from 0 (20 °C) to 1 (89 °C).
pub fn cavitation(flow_lpm: f64, hot: f64) -> f64 {
    let flow_squared = flow_lpm * flow_lpm;
    let available_m = NPSH_AVAILABLE_M - VAPOUR_MAX_M * hot - SUCTION_LINE * flow_squared;
    let required_m = NPSH_REQUIRED_M + NPSH_REQUIRED_SLOPE * flow_squared;
    ((2.0 - available_m / required_m) / 1.5).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_flow_and_power_follow_the_affinity_laws() {
        let power_ratio = shaft_power_w(0.9, 90.0) / shaft_power_w(1.0, 100.0);
        assert!((power_ratio - 0.9_f64.powi(3)).abs() < 1e-12);
        let pressure_ratio = pressure_bar(0.9, 90.0) / pressure_bar(1.0, 100.0);
        assert!((pressure_ratio - 0.9_f64.powi(2)).abs() < 1e-12);
    }

    #[test]
    fn the_crossing_lies_on_both_curves() {
        for opening in [0.01, 0.3, 0.6, 1.0] {
            let flow = flow_lpm(0.99, opening);
            let system_m = HEAD_STATIC_M + (PIPE + VALVE / (opening * opening)) * flow * flow;
            assert!(
                (pressure_bar(0.99, flow) - BAR_PER_M * system_m).abs() < 1e-9,
                "opening {opening}"
            );
        }
    }

    #[test]
    fn efficiency_is_best_near_the_best_efficiency_point() {
        let efficiency =
            |flow: f64| pressure_bar(1.0, flow) * 1e5 * flow / 60_000.0 / shaft_power_w(1.0, flow);
        let best = efficiency(FLOW_BEST_LPM);
        assert!((0.60..0.65).contains(&best), "{best}");
        assert!(efficiency(100.0) < best - 0.05);
    }

    #[test]
    fn cold_liquid_never_cavitates_and_hot_liquid_always() {
        for flow in [0.0, 100.0, 150.0, 220.0] {
            assert_eq!(cavitation(flow, 0.0), 0.0, "{flow} l/min");
            assert!(
                cavitation(flow, 1.0) > 0.8,
                "{flow} l/min: {}",
                cavitation(flow, 1.0)
            );
        }
    }
}
