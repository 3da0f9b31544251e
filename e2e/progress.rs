//! What a waiting person sees: on a terminal one live line per step, elsewhere plain lines, with
//! the elapsed time either way. Everything goes to standard error; results go to standard output.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// How often a plain log repeats that a step is still going on.
const REMINDER: Duration = Duration::from_secs(15);

/// Shows the steps that are going on.
#[derive(Clone, Default)]
pub struct Progress {
    lines: MultiProgress,
}

/// One step. Dropped without [`Step::done`], its line disappears: an error names the step.
pub struct Step {
    name: String,
    began: Instant,
    activity: Arc<Mutex<String>>,
    display: Display,
}

enum Display {
    Terminal {
        lines: MultiProgress,
        bar: ProgressBar,
    },
    Plain {
        reminder: JoinHandle<()>,
    },
}

impl Progress {
    /// Begins a step. Must be called inside a Tokio runtime.
    pub fn step(&self, name: impl Into<String>, activity: &str) -> Step {
        let name = name.into();
        let began = Instant::now();
        let shared = Arc::new(Mutex::new(activity.to_owned()));
        let display = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner().with_prefix(name.clone());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix:<24} {elapsed:>4}  {wide_msg}")
            {
                bar.set_style(style);
            }
            let bar = self.lines.add(bar);
            bar.set_message(activity.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            Display::Terminal {
                lines: self.lines.clone(),
                bar,
            }
        } else {
            eprintln!("{name:<24} {activity}");
            let (name, shared) = (name.clone(), shared.clone());
            let reminder = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(REMINDER).await;
                    let activity = shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    eprintln!(
                        "{name:<24} {:>4.0} s  {activity}",
                        began.elapsed().as_secs_f32()
                    );
                }
            });
            Display::Plain { reminder }
        };
        Step {
            name,
            began,
            activity: shared,
            display,
        }
    }

    /// Prints one line above the live ones.
    pub fn note(&self, line: &str) {
        if std::io::stderr().is_terminal() {
            // A terminal that cannot be written to is not worth failing for.
            let _ = self.lines.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}

impl Step {
    /// Says what the step is doing now. In a plain log it appears with the next reminder.
    pub fn now(&self, activity: &str) {
        // An answer of the API server has a line per check.
        let activity = activity.lines().next().unwrap_or_default();
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity.to_owned();
        if let Display::Terminal { bar, .. } = &self.display {
            bar.set_message(activity.to_owned());
        }
    }

    /// Ends the step with a line that stays.
    pub fn done(self, outcome: &str) {
        let line = format!(
            "{:<24} {:>6.1} s  {outcome}",
            self.name,
            self.began.elapsed().as_secs_f32()
        );
        match &self.display {
            Display::Terminal { lines, bar } => {
                bar.finish_and_clear();
                let _ = lines.println(format!("✓ {line}"));
            }
            Display::Plain { .. } => eprintln!("{line}"),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        match &self.display {
            Display::Terminal { bar, .. } => bar.finish_and_clear(),
            Display::Plain { reminder } => reminder.abort(),
        }
    }
}
