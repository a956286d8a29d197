from tests.accelerators import hlo

TEXT = """HloModule a_program

%inner (p: f32[8,4]) -> f32[4,8] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %transpose.1 = f32[4,8]{1,0:T(8,128)} transpose(%p), dimensions={1,0}, metadata={op_name="a/transpose"}
}

ENTRY %main (x: f32[8,4]) -> f32[4,8] {
  %x = f32[8,4]{1,0} parameter(0)
  %copy-start = (f32[8,4]{1,0:S(1)}, f32[8,4]{1,0}, u32[]{:S(2)}) copy-start(%x)
  %copy-done = f32[8,4]{1,0:S(1)} copy-done(%copy-start)
  %fusion = (f32[4,8]{1,0}, /*index=1*/bf16[2]{0}) fusion(%copy-done, %x, %x), kind=kLoop, calls=%inner
  %get-tuple-element = f32[4,8]{1,0} get-tuple-element(%fusion), index=0
  ROOT %all-reduce-start = f32[4,8]{1,0} all-reduce-start(%get-tuple-element), to_apply=%sum
}
"""


def test_bytes_are_those_of_main_memory_and_an_operand_is_read_once():
    copied, fused, reduced = 128, 128 + 128 + 4, 128 + 128
    assert hlo.bytes_moved(hlo.instructions(TEXT)) == copied + fused + reduced


def test_relayouts_within_fusions_count_from_a_size_on():
    program = hlo.instructions(TEXT)
    assert hlo.relayouts(program, 32) == ["transpose.1"] and not hlo.relayouts(program, 33)


def test_an_exchange_is_named_without_its_start_and_end():
    program = hlo.instructions(TEXT)
    assert hlo.collectives(program) == ["all-reduce"] and not hlo.collectives(program, 33)


def test_what_is_in_memory_already_is_not_made():
    made = hlo.results(hlo.instructions(TEXT), 32)
    assert made == ["transpose.1", "copy-start", "copy-done", "fusion", "all-reduce-start"]


def test_instructions_know_their_place_in_the_source():
    assert [one.scope for one in hlo.instructions(TEXT) if one.kind == "transpose"] == ["a/transpose"]
