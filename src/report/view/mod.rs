//! One view for each kind of answer: from values of the rooms below to text.

pub mod bench;
pub mod diff;
pub mod facts;
pub mod findings;
pub mod groups;
pub mod html;
pub mod journal;
pub mod plan;
pub mod rehearsal;
pub mod topology;
mod verdicts;
