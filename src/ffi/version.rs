//! The only place of the core that knows one Dovecot version from another.

use crate::store::Line;

/// The release line whose headers this was built with.
pub const LINE: Line = if cfg!(dovecot_2_4) {
    Line::V2_4
} else {
    Line::V2_3
};
