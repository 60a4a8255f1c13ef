//! Motor, pump and valve at their common operating point.
//!
//! Speed sets the flow, flow sets the power, power sets the slip and so the speed: the loop is
//! closed through the rotor's inertia and the water's, two first-order lags, rather than solved.
//! Faults enter here as severities, 0..=1.

use crate::mains::{IMPEDANCE_OHM, LINE_HZ, Supply, VOLTAGE_V};
use crate::noise::{Lag, Noise, Stream, Wander};
use crate::thermal::Thermal;
use crate::valve::{POSITION_MEAN, opening};
use crate::{motor, pump};

/// Rotor and impeller reach a new speed in about this time, s.
const ROTOR_S: f64 = 0.15;
/// The water column in the pipe reaches a new flow in about this time, s.
const WATER_S: f64 = 0.5;
/// Friction of a bearing whose outer race is spalled at severity 1, W. A sound one has about 5 W.
const BEARING_FRICTION_W: f64 = 60.0;
/// Share of the pressure lost in fully developed cavitation: past the 3 % that defines NPSH
/// required.
const CAVITATION_HEAD_LOSS: f64 = 0.12;
/// Relative fluctuation of flow and pressure in fully developed cavitation, standard deviation.
const CAVITATION_UNREST: f64 = 0.08;
/// Iterations after which the operating point has settled to better than any instrument's
/// resolution.
const SETTLING_STEPS: usize = 200;

/// Where the machine runs during one reading period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OperatingPoint {
    pub(crate) shaft_hz: f64,
    pub(crate) voltage_v: f64,
    pub(crate) current_a: f64,
    pub(crate) pressure_bar: f64,
    pub(crate) temperature_c: f64,
    pub(crate) flow_lpm: f64,
    pub(crate) cavitation: f64,
}

/// The machine's faults, severities 0..=1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Damage {
    pub(crate) hot_liquid: f64,
    pub(crate) outer_race: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    shaft_hz: Lag,
    flow_lpm: Lag,
    current_a: f64,
    thermal: Thermal,
    turbulence: Turbulence,
}

impl Machine {
    /// Running steadily at `position` of the valve, in thermal equilibrium with the mean load.
    pub(crate) fn new(seed: u64, step_s: f64, position: f64) -> Self {
        let (shaft_hz, mean_flow_lpm) = settle(POSITION_MEAN);
        let mean_power_w = pump::shaft_power_w(shaft_hz / motor::SHAFT_HZ, mean_flow_lpm);
        let (shaft_hz, flow_lpm) = settle(position);
        let power_w = pump::shaft_power_w(shaft_hz / motor::SHAFT_HZ, flow_lpm);
        Self {
            shaft_hz: Lag::new(shaft_hz, ROTOR_S, step_s),
            flow_lpm: Lag::new(flow_lpm, WATER_S, step_s),
            current_a: motor::current_a(power_w, VOLTAGE_V),
            thermal: Thermal::new(seed, step_s, motor::losses_w(mean_power_w)),
            turbulence: Turbulence::new(seed, step_s),
        }
    }

    /// One reading period with the valve at `position`, 0..=1.
    pub(crate) fn step(&mut self, supply: Supply, position: f64, damage: Damage) -> OperatingPoint {
        // Line-to-line drop along the cable, with the current of the period before.
        let voltage_v = supply.voltage_v - motor::SQRT_3 * IMPEDANCE_OHM * self.current_a;
        let speed = self.shaft_hz.value() / motor::SHAFT_HZ;
        let mean_flow_lpm = self
            .flow_lpm
            .follow(pump::flow_lpm(speed, opening(position)));
        let cavitation = pump::cavitation(mean_flow_lpm, damage.hot_liquid);
        let [flow_unrest, pressure_unrest] = self.turbulence.step(cavitation);

        let flow_lpm = mean_flow_lpm * (1.0 + flow_unrest);
        let head_kept = 1.0 - CAVITATION_HEAD_LOSS * cavitation;
        let pressure_bar =
            pump::pressure_bar(speed, mean_flow_lpm) * head_kept * (1.0 + pressure_unrest);
        let friction_w = BEARING_FRICTION_W * damage.outer_race;
        let shaft_power_w = pump::shaft_power_w(speed, flow_lpm) + friction_w;
        let target_hz = motor::speed_hz(
            shaft_power_w,
            self.shaft_hz.value(),
            voltage_v,
            supply.line_hz,
        );
        self.current_a = motor::current_a(shaft_power_w, voltage_v);
        OperatingPoint {
            shaft_hz: self.shaft_hz.follow(target_hz),
            voltage_v,
            current_a: self.current_a,
            pressure_bar,
            temperature_c: self
                .thermal
                .step(motor::losses_w(shaft_power_w) + friction_w),
            flow_lpm,
            cavitation,
        }
    }
}

/// Shaft speed in Hz and flow in l/min of a healthy machine on a nominal supply.
fn settle(position: f64) -> (f64, f64) {
    let mut shaft_hz = motor::SHAFT_HZ;
    let mut flow_lpm = pump::FLOW_BEST_LPM;
    for _ in 0..SETTLING_STEPS {
        let speed = shaft_hz / motor::SHAFT_HZ;
        flow_lpm = pump::flow_lpm(speed, opening(position));
        let power_w = pump::shaft_power_w(speed, flow_lpm);
        shaft_hz = 0.5 * (shaft_hz + motor::speed_hz(power_w, shaft_hz, VOLTAGE_V, LINE_HZ));
    }
    (shaft_hz, flow_lpm)
}

/// Relative fluctuation of flow and pressure: a little always, much in cavitation.
#[derive(Clone, Debug)]
struct Turbulence {
    noise: Noise,
    eddies: [Wander; 2],
    bubbles: [Wander; 2],
}

impl Turbulence {
    fn new(seed: u64, step_s: f64) -> Self {
        let mut noise = Noise::new(seed, Stream::Turbulence);
        let mut wander = |sigma, tau_s| Wander::new(sigma, tau_s, step_s, &mut noise);
        let eddies = [wander(0.006, 0.5), wander(0.003, 0.3)];
        let bubbles = [
            wander(CAVITATION_UNREST, 0.25),
            wander(CAVITATION_UNREST, 0.25),
        ];
        Self {
            noise,
            eddies,
            bubbles,
        }
    }

    /// `[flow, pressure]`. Draws alike in every condition, so that a fault does not shift what
    /// comes after.
    fn step(&mut self, cavitation: f64) -> [f64; 2] {
        core::array::from_fn(|i| {
            self.eddies[i].step(&mut self.noise)
                + cavitation * self.bubbles[i].step(&mut self.noise)
        })
    }
}
