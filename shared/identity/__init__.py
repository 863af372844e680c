"""Who may connect: tokens, enrolment, remembered devices."""
