
# Each line is written and read back, by the very objects that were made above.
for line in sys.stdin:
    text = line.strip()
    try:
        write(text)
        said = read()
        print("done" if said == text else f"wrote {text!r} and read {said!r}", file=ANSWERS, flush=True)
    except Exception as error:
        print("failed:", *repr(error).split(), file=ANSWERS, flush=True)
