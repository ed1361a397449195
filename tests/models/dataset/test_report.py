from models.dataset.report import Fault, FaultCode, Range, count_by_code, in_order, listed, refusals

EMPTY = Fault(FaultCode.EMPTY_CLASS, "the class 'wasps' is empty", label="wasps")
BROKEN = Fault(FaultCode.UNREADABLE, "cut short", file="b.jpg")
ODD = Fault(FaultCode.ODD_NAME, "blanks", file="a a.jpg")


def test_what_decides_comes_first():
    other = Fault(FaultCode.UNREADABLE, "cut short", file="a.jpg")
    assert in_order([ODD, BROKEN, EMPTY, other]) == (EMPTY, other, BROKEN, ODD)


def test_severity_follows_from_the_code():
    assert [fault.severity for fault in (EMPTY, BROKEN, ODD)] == ["error", "error", "warning"]


def test_a_policy_decides_over_errors_and_not_over_what_is_fatal():
    assert refusals([ODD], "refuse") == ()
    assert refusals([BROKEN], "skip") == ()
    assert "faults: 1, first 'b.jpg': cut short" in refusals([BROKEN], "refuse")[0]
    assert refusals([EMPTY], "skip") == refusals([EMPTY], "refuse") == (EMPTY.reason,)


def test_thousands_of_one_kind_do_not_crowd_out_another():
    many = [Fault(FaultCode.ODD_NAME, "blanks", file=f"{n} .jpg") for n in range(6000)]
    assert listed([*many, BROKEN]) == (*many[:5000], BROKEN)
    assert count_by_code([*many, BROKEN]) == {"odd_name": 6000, "unreadable": 1}


def test_a_spread_is_of_what_is_there():
    assert Range.of([5, 1, 2]) == Range(1, 2, 5)
    assert Range.of([1, 2]) == Range(1, 1.5, 2)
    assert Range.of([]) is None
