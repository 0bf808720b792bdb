//! Mappings that are parked when their window ends.

use tombolo::pressure::Level;
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{READ, WRITE, all_mappings_of, filled};

use super::{guest, host};

#[test]
fn freezing_and_pressure_end_parking() {
    // All tests of a process share its slots.
    alone("parked::freezing_and_pressure_end_parking", || {
        let host = host();
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", 1 << 20, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let mut park = |access| {
            let (window, at) = a.mapped(number, 16, access);
            assert_eq!(a.byte(at), 1);
            a.drop_window(window).unwrap();
            assert_eq!(a.byte(at), 0);
        };
        park(WRITE);
        assert_eq!(all_mappings_of(&region).len(), 1, "a mapping is parked");
        region.freeze().unwrap();
        assert_eq!(
            all_mappings_of(&region).len(),
            0,
            "nothing writable is left"
        );
        park(READ);
        assert_eq!(all_mappings_of(&region).len(), 1, "a mapping is parked");
        host.report_pressure(Level::Moderate);
        assert_eq!(all_mappings_of(&region).len(), 0);
        park(READ);
        assert_eq!(all_mappings_of(&region).len(), 0, "the pressure lasts");
        host.report_pressure(Level::Normal);
        park(READ);
        assert_eq!(all_mappings_of(&region).len(), 1, "it is over");
    });
}
