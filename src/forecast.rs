//! How long pictures will take, in words.

use sr3_jobs::upscale::Forecast;

/// What is asked for at least before a quicker preset is worth a word.
pub(crate) const LONG_SECONDS: f64 = 60.0;

/// "about 2:20" with the quicker preset's, where it is long.
pub(crate) fn about(forecast: &dyn Forecast, seconds: f64) -> String {
    let clock =
        |seconds: f64| crate::clock::clock(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    let mut text = format!("about {}", clock(seconds.max(1.0)));
    if seconds >= LONG_SECONDS
        && let Some((preset, share)) = forecast.quicker()
    {
        text += &format!("; try --preset {preset}: about {}", clock(seconds * share));
    }
    text
}
