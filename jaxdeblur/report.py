def write_report(run, output):
    return output
