//! The NDK objects of a world and what holds them, for reports.

use std::rc::Rc;

use super::object::{Layer, Object, State, layer_if_any};

/// Lines of a report: whoever has more objects sees in their first ones what he does with them.
const MOST: usize = 48;

/// The objects that are not closed as far as their consumers know, by provider, kind and age.
pub(crate) fn objects() -> Vec<String> {
    let mut objects = layer_if_any(Layer::known).unwrap_or_default();
    objects.sort_by_key(|o| o.place());
    let mut lines: Vec<_> = objects.iter().take(MOST).map(line).collect();
    if objects.len() > MOST {
        lines.push(format!("and {} more", objects.len() - MOST));
    }
    lines
}

fn line(object: &Rc<Object>) -> String {
    let state = match object.state.get() {
        State::Unborn => "its create pends",
        State::Open => "open",
        State::Closing => "its close pends",
        State::Closed => "closed, its consumer not told yet",
    };
    let mut line = format!("{object}: {state}");
    let mut needs: Vec<_> = object.antecedents().iter().map(|a| a.name()).collect();
    // A queue pair may complete into one queue twice.
    needs.dedup();
    if !needs.is_empty() {
        line += &format!("; needs {}", needs.join(", "));
    }
    for (count, what) in [
        (object.live_successors().len(), "object(s) need it"),
        (object.requests.get() as usize, "call(s) not completed"),
        (object.events.get() as usize, "callback(s) running"),
    ] {
        if count > 0 {
            line += &format!("; {count} {what}");
        }
    }
    line
}
